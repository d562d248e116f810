"""The application: `import_path: deployments.app:build_app`, its arguments the YAML's `args`.

This module must not import annotations from `__future__`: Serve would then see a string where the
builder's argument type stands, and validate nothing.
"""

from pydantic import Field
from ray import serve
from ray.serve import Application

from deployments.ingress import Ingress
from deployments.jobs import Jobs
from deployments.limits import IngressSettings, JobSettings
from deployments.upscaler import Upscaler, UpscalerArgs, UpscalerSettings


class AppArgs(UpscalerArgs):
    """What replicas are made with: any change replaces them all.

    What may change while they run is in the `user_config` of a deployment, number and size of
    replicas beside it.
    """

    upscale_timeout_s: float = Field(
        default=600.0, gt=0, description="a picture's time while its client waits, queue included"
    )
    cold_start_s: float | None = Field(
        default=None,
        gt=0,
        description="with `min_replicas: 0`, how long the first may take to start; pictures wait",
    )
    jobs: JobSettings = JobSettings()


def build_app(args: AppArgs) -> Application:
    """Build the application from the YAML's arguments; Serve validates them by their type."""
    upscaler_args = UpscalerArgs.model_validate(
        args.model_dump(include=set(UpscalerArgs.model_fields))
    )
    upscaler = serve.deployment(
        Upscaler, name="Upscaler", user_config=UpscalerSettings().model_dump()
    ).bind(upscaler_args)
    jobs = serve.deployment(Jobs, name="Jobs").bind(
        upscaler, args.jobs, cold_start_s=args.cold_start_s
    )
    ingress = serve.deployment(
        serve.ingress()(Ingress), name="Ingress", user_config=IngressSettings().model_dump()
    )
    return ingress.bind(
        upscaler,
        jobs,
        args.upscale_timeout_s,
        args.jobs.timeout_s,
        cold_start_s=args.cold_start_s,
    )
