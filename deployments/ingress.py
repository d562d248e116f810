"""The HTTP side, on CPU: bytes in, checks, decoding, a replica's work, encoding, bytes out."""

import asyncio
import secrets
import time
from dataclasses import asdict, replace

from fastapi import FastAPI, Request, Response

from deployments import forms, problems, replies
from deployments.dispatch import Dispatcher, UpscalerHandle
from deployments.openapi import FORM, PICTURE, PROBLEM
from deployments.schemas import Limits, Model, ModelList, Status, TimingsMs
from sr_engine.alpha import add_alpha
from sr_engine.encoding import encode_image, measure_consistency
from sr_engine.errors import InvalidImage
from sr_engine.image_io import decode_image
from sr_engine.request import MAX_SEED

DESCRIPTION = """Self-hosted super-resolution that gives the input back when it is scaled down.

Scale the answer down with Pillow's `resize(BICUBIC)` and you get your input back: bit for bit from
PNG and lossless WebP, wherever a picture in range can."""


class Ingress:
    """One HTTP replica; its handle is an attribute, so that a test may put another one there."""

    def __init__(self, upscaler: UpscalerHandle, limits: Limits, timeout_s: float) -> None:
        self.dispatcher = Dispatcher(upscaler, timeout_s)
        self.limits = limits

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Routes of this replica; Serve calls it once, after the constructor."""
        app = FastAPI(
            title="nullscale",
            description=DESCRIPTION,
            redirect_slashes=False,
            redoc_url=None,
            # Everything that can go wrong is a problem, on every route.
            responses=PROBLEM,
        )
        problems.install(app)
        app.add_api_route(
            "/v1/upscale",
            self.upscale,
            methods=["POST"],
            response_class=Response,
            responses=PICTURE,
            openapi_extra=FORM,
        )
        app.add_api_route("/v1/models", self.models, response_model=ModelList)
        for path, probe in (("/livez", self.livez), ("/readyz", self.readyz)):
            app.add_api_route(path, probe, response_model=Status)
            app.add_api_route(path, probe, methods=["HEAD"], include_in_schema=False)
        return app

    async def upscale(self, request: Request) -> Response:
        """Upscale one picture."""
        model = await self.dispatcher.known()
        form = await forms.read_form(request, self.limits.max_body_bytes, model)
        media_type = f"image/{form.output_format}"
        as_json = replies.wants_json(request, media_type)
        # Drawn here, not in the replica: a second try on another replica gives the same picture.
        seed = secrets.randbelow(MAX_SEED + 1) if form.params.seed is None else form.params.seed
        params = replace(form.params, seed=seed)

        start_s = time.perf_counter()
        try:
            source = await asyncio.to_thread(
                decode_image,
                form.file,
                self.limits.image,
                scale=params.scale,
                output_format=form.output_format,
            )
        except InvalidImage as err:
            raise problems.problem_of(err) from err
        decoded_s = time.perf_counter()
        reply = await self.dispatcher.upscale(source.samples, params, problems.request_id(request))
        upscaled_s = time.perf_counter()
        layers = await asyncio.to_thread(add_alpha, reply.image, source, params.scale)
        encoded = await asyncio.to_thread(
            encode_image,
            layers.image,
            form.output_format,
            form.output_quality,
            alpha=layers.alpha,
        )
        consistency = await asyncio.to_thread(
            measure_consistency, encoded, source, reachable=reply.reachable and layers.reachable
        )
        picture = replies.Picture(
            encoded=encoded,
            media_type=media_type,
            width=reply.image.shape[1],
            height=reply.image.shape[0],
            seed=reply.seed,
            model=reply.model,
            consistency=consistency,
            timings=TimingsMs(
                decode=1e3 * (decoded_s - start_s),
                queue=1e3 * max(0.0, upscaled_s - decoded_s - reply.compute_s),
                upscale=1e3 * reply.compute_s,
                encode=1e3 * (time.perf_counter() - upscaled_s),
            ),
        )
        if as_json:
            return await asyncio.to_thread(replies.json_reply, picture, request)
        return replies.image_reply(picture)

    async def models(self) -> ModelList:
        """The loaded model, its limits and its defaults."""
        model = await self.dispatcher.describe()
        defaults = {k: v for k, v in asdict(model.defaults).items() if v is not None}
        return ModelList(
            models=[
                Model(
                    name=model.name,
                    native_px=model.native_px,
                    parameters=model.parameters,
                    device=model.device,
                    dtype=model.dtype,
                    prompts=model.prompts,
                    draft=model.draft,
                    limits=self.limits,
                    defaults=defaults,
                )
            ]
        )

    async def livez(self) -> Status:
        """The process is up."""
        return Status(status="alive")

    async def readyz(self) -> Status:
        """A replica has its model loaded and warm."""
        await self.dispatcher.describe()
        return Status(status="ready")
