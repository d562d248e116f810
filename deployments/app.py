"""The application: `import_path: deployments.app:build_app`, its arguments the YAML's `args`.

This module must not import annotations from `__future__`: Serve would then see a string where the
builder's argument type stands, and validate nothing.
"""

from pydantic import Field
from ray import serve
from ray.serve import Application

from deployments.ingress import Ingress
from deployments.jobs import Jobs
from deployments.schemas import Access, JobSettings, Limits
from deployments.upscaler import Upscaler, UpscalerArgs


class AppArgs(UpscalerArgs):
    """Arguments of the application; number and size of replicas are the YAML's `deployments`."""

    upscale_timeout_s: float = Field(
        default=600.0, gt=0, description="a picture's time while its client waits, queue included"
    )
    cold_start_s: float | None = Field(
        default=None,
        gt=0,
        description="with `min_replicas: 0`, how long the first may take to start; pictures wait",
    )
    limits: Limits = Limits()
    jobs: JobSettings = JobSettings()
    access: Access = Access()


def build_app(args: AppArgs) -> Application:
    """Build the application from the YAML's arguments; Serve validates them by their type."""
    upscaler_args = UpscalerArgs.model_validate(
        args.model_dump(include=set(UpscalerArgs.model_fields))
    )
    upscaler = serve.deployment(Upscaler, name="Upscaler").bind(upscaler_args)
    jobs = serve.deployment(Jobs, name="Jobs").bind(
        upscaler, args.jobs, cold_start_s=args.cold_start_s
    )
    ingress = serve.deployment(serve.ingress()(Ingress), name="Ingress")
    return ingress.bind(
        upscaler,
        jobs,
        args.limits,
        args.access,
        args.upscale_timeout_s,
        args.jobs.timeout_s,
        cold_start_s=args.cold_start_s,
    )
