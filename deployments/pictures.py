"""From a decoded picture to an encoded one: a replica's work, and the coding around it."""

import asyncio
import time
from dataclasses import dataclass

from deployments.coding import coded
from deployments.dispatch import Dispatcher, OnEvent
from deployments.kinds import RETRY_AFTER_S
from deployments.messages import Order, UpscaleReply
from deployments.problems import Problem
from deployments.schemas import TimingsMs
from deployments.workload import work_units
from nullscale.imaging.alpha import add_alpha
from nullscale.imaging.encoding import encode_image, measure_consistency
from nullscale.maths.consistency import Consistency
from nullscale.maths.operators import output_side


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An encoded answer and how it came about.

    Attributes:
        media_type: of ``encoded``.
        width: of the picture, px.
        height: of the picture, px.
        input_bit_depth: of the file that was sent, 8 or 16.
        consistency: of the encoded file.
        work_s: engine seconds that it took.
    """

    encoded: bytes
    media_type: str
    width: int
    height: int
    input_bit_depth: int
    seed: int
    model: str
    consistency: Consistency
    timings: TimingsMs
    work_s: float = 0.0


async def make_picture(
    order: Order, dispatcher: Dispatcher, request_id: str, on_event: OnEvent | None = None
) -> Picture:
    """Carry out an order; coding runs beside the event loop, and within the order's time.

    Raises:
        Problem: it could not be done in time, or no replica could do it.
    """
    try:
        async with asyncio.timeout(order.until_s - time.time()):
            sent_s = time.perf_counter()
            reply = await dispatcher.upscale(order, request_id, on_event)
            return await _encoded(order, reply, sent_s)
    except TimeoutError as err:
        detail = "the request did not end within its time"
        raise Problem("deadline_exceeded", detail, retry_after_s=RETRY_AFTER_S) from err


async def _encoded(order: Order, reply: UpscaleReply, sent_s: float) -> Picture:
    upscaled_s = time.perf_counter()
    source = order.source
    pin = order.params.consistent
    layers = await coded(add_alpha, reply.image, source, order.params.scale, pin=pin)
    encoded = await coded(
        encode_image,
        layers.image,
        order.output_format,
        order.output_quality,
        alpha=layers.alpha,
        exif=source.exif,
        xmp=source.xmp,
    )
    consistency = await coded(
        measure_consistency, encoded, source, reachable=reply.reachable and layers.reachable
    )
    return Picture(
        encoded=encoded,
        media_type=f"image/{order.output_format}",
        width=reply.image.shape[1],
        height=reply.image.shape[0],
        input_bit_depth=source.bit_depth,
        seed=reply.seed,
        model=reply.model,
        consistency=consistency,
        timings=TimingsMs(
            decode=order.decode_ms,
            queue=1e3 * max(0.0, upscaled_s - sent_s - reply.compute_s),
            upscale=1e3 * reply.compute_s,
            encode=1e3 * (time.perf_counter() - upscaled_s),
        ),
        work_s=reply.work_s,
    )


def promise_of(order: Order, consistency: Consistency) -> str:
    """Say in a word whether a picture gives its input back, or why it need not.

    Returns:
        "exact"; "unpromised", of a lossy file or a picture that was not made consistent;
        "unreachable", where no picture in range was found; or "broken", where it should have been
        exact.
    """
    if consistency.exact:
        return "exact"
    lossy = order.output_format == "jpeg" or (
        order.output_format == "webp" and order.output_quality is not None
    )
    if lossy or not order.params.consistent:
        return "unpromised"
    return "broken" if consistency.reachable else "unreachable"


def work_of(order: Order) -> float:
    """How much work an order is: megapixels of output times steps."""
    height, width, _ = order.source.samples.shape
    scale = order.params.scale
    pixels = output_side(height, scale) * output_side(width, scale)
    return work_units(pixels, order.params.denoising_steps)
