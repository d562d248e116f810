"""The answer to a picture: its image, its headers, and its JSON form."""

import base64
from urllib.parse import quote

from fastapi import Request, Response

from deployments.coding import coded
from deployments.pictures import Picture
from deployments.problems import Problem, request_id
from deployments.schemas import UpscaleAnswer

JSON = "application/json"


def wants_json(request: Request, media_type: str) -> bool:
    """Say whether the client prefers JSON to the plain image (RFC 9110, 12.5.1).

    Raises:
        Problem: it accepts neither.
    """
    # Several lines are one list; a line without a word asks for nothing in particular.
    accept = ",".join(request.headers.getlist("accept")).strip(", ") or "*/*"
    image, json = _weight(accept, media_type), _weight(accept, JSON)
    if max(image, json) <= 0:
        raise Problem("not_acceptable", f"{media_type} and {JSON} can be made")
    return json > image


async def reply(picture: Picture, request: Request) -> Response:
    """The answer in the form that the client prefers.

    Raises:
        Problem: it accepts neither.
    """
    if wants_json(request, picture.media_type):
        return await coded(json_reply, picture, request)
    return image_reply(picture)


def image_reply(picture: Picture) -> Response:
    """The image itself; everything else is in the headers."""
    headers = {
        **_headers(picture),
        "Content-Disposition": f'inline; filename="upscaled.{picture.media_type.split("/")[1]}"',
    }
    return Response(picture.encoded, headers=headers, media_type=picture.media_type)


def json_reply(picture: Picture, request: Request) -> Response:
    """The same as JSON, the image in base64."""
    answer = UpscaleAnswer(
        image=base64.b64encode(picture.encoded).decode("ascii"),
        media_type=picture.media_type,
        width=picture.width,
        height=picture.height,
        input_bit_depth=picture.input_bit_depth,
        seed=picture.seed,
        model=picture.model,
        consistency_exact=picture.consistency.exact,
        consistency_reachable=picture.consistency.reachable,
        consistency_psnr_db=picture.consistency.psnr_db,
        timings_ms=picture.timings,
        request_id=request_id(request),
    )
    return Response(answer.model_dump_json(), headers=_headers(picture), media_type=JSON)


def _headers(picture: Picture) -> dict[str, str]:
    # X-Request-Id is not among them: Serve's proxy puts it on every answer.
    headers = {
        "X-Seed": str(picture.seed),
        # A folder's name may hold what no header can.
        "X-Model": quote(picture.model, safe="/:@+ "),
        "X-Consistency-Exact": "?1" if picture.consistency.exact else "?0",
        "Server-Timing": ", ".join(f"{k};dur={v:.1f}" for k, v in picture.timings),
        "Cache-Control": "no-store",
        # Whatever the file had, samples of the answer have as many bits.
        "X-Bit-Depth": "8",
        "Vary": "Accept, Prefer",
        "X-Content-Type-Options": "nosniff",
    }
    if picture.consistency.psnr_db is not None:
        headers["X-Consistency-PSNR"] = f"{picture.consistency.psnr_db:.2f}"
    return headers


def _weight(accept: str, media_type: str) -> float:
    """The weight, 0 to 1, that an Accept header gives to a media type; the closest range counts."""
    closest = {media_type: 3, media_type.split("/")[0] + "/*": 2, "*/*": 1}
    best = (0, 0.0)
    for part in accept.lower().split(","):
        name, *options = (piece.strip() for piece in part.split(";"))
        weight = next((o[2:] for o in options if o.startswith("q=")), "1")
        try:
            best = max(best, (closest.get(name, 0), float(weight)))
        except ValueError:
            continue
    return best[1] if best[0] else 0.0
