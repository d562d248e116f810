"""The multipart form of `POST /v1/upscale`: bytes to a picture's file and checked parameters."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import cast

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from deployments.body_budget import BodyBudget
from deployments.form_schema import FORM_FIELDS, REQUEST_FIELDS
from deployments.kinds import RETRY_AFTER_S
from deployments.limits import Limits
from deployments.messages import ModelDescription
from deployments.problems import Problem, invalid_fields
from nullscale.errors import InvalidParameter, PromptUnsupported
from nullscale.imaging.image_io import OutputFormat
from nullscale.maths.params import UpscaleParams, Value
from nullscale.maths.presets import Preset, preset_params

MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024
MAX_NUMBER_CHARS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleForm:
    """A request as it was sent, its fields checked.

    Attributes:
        file: the picture's bytes, unchecked.
        output_quality: None is the format's own default.
        deadline_s: seconds; None leaves it to the server.
        respond_async: make a job of it.
    """

    file: bytes
    params: UpscaleParams
    output_format: OutputFormat
    output_quality: int | None
    keep_metadata: bool
    deadline_s: float | None
    respond_async: bool

    def digest(self) -> str:
        """Return a SHA-256 of all that was asked for."""
        digest = hashlib.sha256(self.file)
        digest.update(repr(replace(self, file=b"")).encode())
        return digest.hexdigest()


async def read_form(
    request: Request, limits: Limits, budget: BodyBudget, model: ModelDescription
) -> UpscaleForm:
    """Read a multipart body, as far as the limit goes, and check its fields.

    Args:
        budget: of the bodies of all requests.
        model: has the defaults of the fields that are absent, and says which are of no use.

    Raises:
        Problem: another media type, a body that is too large, too slow or cannot be parsed, too
            many bodies at once, or wrong fields; all of them are named.
    """
    with budget.body() as take:
        try:
            async with asyncio.timeout(limits.body_timeout_s):
                form = await _read(request, limits.max_body_bytes, take)
        except TimeoutError as err:
            detail = f"the body did not arrive within {limits.body_timeout_s:g} s"
            raise Problem("body_timeout", detail, retry_after_s=RETRY_AFTER_S, close=True) from err
        try:
            return await _check(form, model)
        finally:
            await form.close()


async def _read(request: Request, max_body_bytes: int, take: Callable[[int], None]) -> FormData:
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data":
        raise Problem("unsupported_media_type", "send a multipart/form-data body", close=True)
    # Python knows encodings that fail on purpose, and some that make what is no text.
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise Problem("malformed_multipart", "the charset can only be utf-8", close=True)
    declared = request.headers.get("content-length", "0")
    # Twenty digits are more than any limit, and int() would refuse some thousands.
    if not declared.isdecimal() or len(declared) >= 20 or int(declared) > max_body_bytes:
        raise _too_large(max_body_bytes)
    parser = MultiPartParser(
        request.headers,
        _limited(request, max_body_bytes, take),
        max_files=MAX_FIELDS,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    # The body is bounded already; a temporary file would only cost time.
    parser.spool_max_size = max_body_bytes
    try:
        return await parser.parse()
    except MultiPartException as err:
        raise Problem("malformed_multipart", err.message, close=True) from err
    except ClientDisconnect as err:
        raise Problem("malformed_multipart", "the body ended early", close=True) from err


async def _check(form: FormData, model: ModelDescription) -> UpscaleForm:
    errors: list[InvalidParameter] = []
    values: dict[str, Value] = {}
    for name in dict.fromkeys(name for name, _ in form.multi_items()):
        try:
            if name != "image":
                values[name] = _field(name, form.getlist(name), model)
        except InvalidParameter as error:
            errors.append(error)
    own = {name: values.pop(name, None) for name in REQUEST_FIELDS}
    preset = Preset(cast(str, own["preset"])) if own["preset"] else None
    params = preset_params(model.defaults, preset)
    try:
        # Each value by itself has been found right.
        params = params.override(values)
    except InvalidParameter as error:
        errors.append(error)
    upload = form.getlist("image")
    if len(upload) != 1 or not isinstance(upload[0], UploadFile):
        errors.append(InvalidParameter("image", "exactly one file is required"))
    if errors:
        raise invalid_fields(errors)
    assert isinstance(upload[0], UploadFile)
    return UpscaleForm(
        file=await upload[0].read(),
        params=params,
        output_format=cast(OutputFormat, own["output_format"] or "png"),
        output_quality=cast("int | None", own["output_quality"]),
        keep_metadata=own["metadata"] == "keep",
        deadline_s=cast("float | None", own["deadline_s"]),
        respond_async=own["async"] is True,
    )


def _field(name: str, given: list[UploadFile | str], model: ModelDescription) -> Value:
    if name not in FORM_FIELDS:
        raise InvalidParameter(name, "unknown field")
    if len(given) != 1 or not isinstance(text := given[0], str):
        raise InvalidParameter(name, "must be given once, as text")
    schema = FORM_FIELDS[name]
    value = _PARSERS[schema["type"]](name, text)
    if value not in schema.get("enum", [value]):
        raise InvalidParameter(name, f"must be one of {', '.join(schema['enum'])}")
    if name in REQUEST_FIELDS:
        if "minimum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
            low, high = schema["minimum"], schema["maximum"]
            raise InvalidParameter(name, f"must be between {low} and {high}")
    else:
        model.defaults.override({name: value})
    if name in ("prompt", "negative_prompt") and value and not model.prompts:
        raise PromptUnsupported(name)
    if name == "draft" and value and not model.draft:
        raise InvalidParameter(name, "this model has no draft autoencoder")
    return value


def _number(name: str, text: str) -> Value:
    # `float` alone takes "nan", "1_000" and digits of every script.
    plain = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text)
    if plain is None or len(text) > MAX_NUMBER_CHARS:
        raise InvalidParameter(name, "must be a finite number")
    return float(text)


def _whole(name: str, text: str) -> Value:
    if not re.fullmatch(r"[+-]?[0-9]+", text) or len(text) > MAX_NUMBER_CHARS:
        raise InvalidParameter(name, "must be a whole number")
    return int(text)


def _flag(name: str, text: str) -> Value:
    if text not in ("true", "false"):
        raise InvalidParameter(name, "must be true or false")
    return text == "true"


def _text(name: str, text: str) -> Value:
    return text


_PARSERS: dict[str, Callable[[str, str], Value]] = {
    "number": _number,
    "integer": _whole,
    "boolean": _flag,
    "string": _text,
}


async def _limited(
    request: Request, max_body_bytes: int, take: Callable[[int], None]
) -> AsyncGenerator[bytes, None]:
    """The body's chunks; what was declared need not be true."""
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > max_body_bytes:
            raise _too_large(max_body_bytes)
        take(len(chunk))
        yield chunk


def _too_large(max_body_bytes: int) -> Problem:
    return Problem("body_too_large", f"at most {max_body_bytes} bytes are taken", close=True)
