"""The HTTP side, on CPU: bytes in, checks, decoding, a replica's work, encoding, bytes out."""

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, replace

from fastapi import FastAPI, Request, Response

from deployments import forms, logs, problems, replies
from deployments.access import Gate
from deployments.access_log import AccessLog
from deployments.backlog import Backlog
from deployments.body_budget import BodyBudget
from deployments.coding import coded
from deployments.cors import Cors
from deployments.dispatch import Dispatcher
from deployments.form_schema import FORM
from deployments.handles import UpscalerHandle
from deployments.job_routes import JobRoutes, JobsHandle, prefers_async
from deployments.kinds import RETRY_AFTER_S
from deployments.limits import IngressSettings, Limits
from deployments.messages import Order
from deployments.metrics import HttpMetrics, RayRecorder
from deployments.openapi import MODELS, PROBE, UPSCALE, complete
from deployments.pictures import make_picture, work_of
from deployments.running import running_upscalers
from deployments.schemas import Model, ModelList, Status
from deployments.settings import Settings
from deployments.static_page import StaticPage
from nullscale.errors import InvalidImage
from nullscale.imaging.image_io import decode_image
from nullscale.maths.params import MAX_SEED
from nullscale.maths.presets import PRESETS

JOBS_AGAIN_S = 60.0

DESCRIPTION = """Self-hosted super-resolution that gives the input back when it is scaled down.

Scale the answer down with Pillow's `resize(BICUBIC)` and you get your input back: bit for bit from
PNG and lossless WebP, wherever a picture in range can."""


class Ingress:
    """One HTTP replica; its handles are arguments, so that a test may bring its own.

    It serves once `reconfigure` has told it what it may.

    Args:
        timeout_s: longest that a picture may take while its client waits.
        job_timeout_s: longest that it may take as a job.
        upscalers: asks how many replicas of the upscaler run.
        cold_start_s: how long one takes to start, where it may be that none runs.
    """

    def __init__(
        self,
        upscaler: UpscalerHandle,
        jobs: JobsHandle,
        timeout_s: float,
        job_timeout_s: float,
        upscalers: Callable[[], int] = running_upscalers,
        cold_start_s: float | None = None,
    ) -> None:
        logs.join_serve()
        self._metrics = HttpMetrics(RayRecorder())
        self._settings = Settings(IngressSettings)
        self._limits = Limits()
        self._backlog = Backlog(self._limits.max_wait_s, on_arrival=self._metrics.work.arrived)
        self._dispatcher = Dispatcher(
            upscaler,
            timeout_s,
            running=upscalers,
            retry_after_s=self._half_of_the_wait_s,
            on_retry=self._metrics.retried,
            cold_start_s=cold_start_s,
        )
        self._gate = Gate()
        self._bodies = BodyBudget(self._limits.max_bodies_bytes)
        self._jobs = JobRoutes(jobs, self._gate)
        self._timeout_s = timeout_s
        self._job_timeout_s = job_timeout_s
        self._takes_jobs = True

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Routes of this replica; Serve calls it once, after the constructor."""
        app = FastAPI(
            title="nullscale",
            description=DESCRIPTION,
            redirect_slashes=False,
            docs_url=None,
            redoc_url=None,
        )
        problems.install(app)
        app.add_middleware(Cors, origins=lambda: self._gate.cors_origins)
        app.add_api_route(
            "/v1/upscale",
            self.upscale,
            methods=["POST"],
            response_class=Response,
            responses=UPSCALE,
            openapi_extra=FORM,
        )
        app.add_api_route("/v1/models", self.models, response_model=ModelList, responses=MODELS)
        self._jobs.install(app)
        StaticPage("/playground", "page").install(app)
        # Swagger UI, from here: FastAPI's own page has it from another host. It sets styles in its
        # markup.
        StaticPage("/docs", "docs", "; style-src 'self' 'unsafe-inline'").install(app)
        for path, probe in (("/livez", self.livez), ("/readyz", self.readyz)):
            app.add_api_route(path, probe, response_model=Status, responses=PROBE)
            app.add_api_route(path, probe, methods=["HEAD"], include_in_schema=False)
        complete(app)
        # The last is the outermost.
        app.add_middleware(AccessLog, metrics=self._metrics, look=self._look)
        return app

    async def reconfigure(self, user_config: object) -> None:
        """Go by other limits and another access from the next request on; see `Settings.change`."""
        self._settings.change(user_config, self._apply)

    async def upscale(self, request: Request) -> Response:
        """Upscale one picture."""
        owner = self._gate.admit(request)
        if prefers_async(request):
            self._check_jobs_are_taken()
            return await self._submit(request, owner, await self._form(request))
        with self._backlog.place() as place:
            form = await self._form(request)
            if form.respond_async:
                self._check_jobs_are_taken()
                self._backlog.settle(place, 0)
                return await self._submit(request, owner, form)
            if "idempotency-key" in request.headers:
                detail = "Idempotency-Key: only for jobs, with `Prefer: respond-async`"
                raise problems.Problem("invalid_header", detail)
            # What cannot be answered is not begun.
            replies.wants_json(request, f"image/{form.output_format}")
            order = await self._order(form, self._timeout_s)
            self._backlog.settle(place, work_of(order))
            picture = await make_picture(order, self._dispatcher, problems.request_id(request))
            self._backlog.load.learn(place.work, picture.work_s)
            self._metrics.pictures.made(order, picture)
        return await replies.reply(picture, request)

    async def models(self, request: Request) -> ModelList:
        """The loaded model, its limits and its defaults."""
        self._gate.identify(request)
        model = await self._dispatcher.describe()
        described = {k: v for k, v in asdict(model).items() if k != "defaults"}
        defaults = {k: v for k, v in asdict(model.defaults).items() if v is not None}
        presets = {preset: dict(params) for preset, params in PRESETS.items()}
        found = Model(**described, limits=self._limits, defaults=defaults, presets=presets)
        return ModelList(models=[found])

    async def livez(self) -> Status:
        """The process is up."""
        return Status(status="alive")

    async def readyz(self) -> Status:
        """A replica has its model loaded and warm, or the next picture starts one."""
        return Status(status="ready" if await self._dispatcher.ready() else "asleep")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell the autoscaling policy of the work that this replica has sent out."""
        return {
            "outstanding_work_s": self._backlog.outstanding_s(),
            "unit_s": self._backlog.load.unit_s,
            **self._backlog.load.arrived(),
        }

    def _apply(self, settings: IngressSettings) -> None:
        # The only one that can fail comes first.
        self._gate.change(settings.access)
        self._limits = settings.limits
        self._backlog.max_wait_s = settings.limits.max_wait_s
        self._bodies.max_bytes = settings.limits.max_bodies_bytes
        self._takes_jobs = settings.take_jobs

    async def _form(self, request: Request) -> forms.UpscaleForm:
        model = await self._dispatcher.known()
        self._backlog.load.guess(model.unit_s)
        return await forms.read_form(request, self._limits, self._bodies, model)

    async def _submit(self, request: Request, owner: str, form: forms.UpscaleForm) -> Response:
        order = await self._order(form, self._job_timeout_s)
        return await self._jobs.submit(order, owner, request, form.digest)

    def _check_jobs_are_taken(self) -> None:
        if not self._takes_jobs:
            detail = "no new jobs are taken at present; without `async` pictures are"
            raise problems.Problem("jobs_paused", detail, retry_after_s=JOBS_AGAIN_S, close=True)

    def _look(self) -> None:
        """Say what is out, and for how long; while nothing is, nobody waits for a start."""
        outstanding_s, wait_s = self._backlog.outstanding_s(), self._backlog.predicted_wait_s()
        if outstanding_s > 0:
            wait_s += self._dispatcher.cold.wait_s
        self._metrics.work.stands(outstanding_s, wait_s)

    def _half_of_the_wait_s(self) -> float:
        """By then there is room in the replicas' queue, whoever filled it."""
        return max(RETRY_AFTER_S, self._backlog.wait_s() / 2)

    async def _order(self, form: forms.UpscaleForm, timeout_s: float) -> Order:
        until_s = time.time() + min(timeout_s, form.deadline_s or timeout_s)
        start_s = time.perf_counter()
        # Drawn here, not in the replica: a second try on another replica gives the same picture.
        seed = secrets.randbelow(MAX_SEED + 1) if form.params.seed is None else form.params.seed
        try:
            source = await coded(
                decode_image,
                form.file,
                self._limits.image,
                scale=form.params.scale,
                output_format=form.output_format,
            )
        except InvalidImage as err:
            raise problems.problem_of(err) from err
        if not form.keep_metadata:
            source = replace(source, exif=None, xmp=None)
        order = Order(
            source=source,
            params=replace(form.params, seed=seed),
            output_format=form.output_format,
            output_quality=form.output_quality,
            until_s=until_s,
            decode_ms=1e3 * (time.perf_counter() - start_s),
        )
        return replace(order, expected_s=work_of(order) * self._backlog.load.unit_s)
