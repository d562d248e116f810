"""No request touches the disk: with a full one, uploads are read and answers are made."""

import builtins
import errno
import io
import os
import tempfile
from typing import Any

import numpy as np
import pytest
from fake_service import client, send
from fake_upscaler import FakeUpscaler
from fakes import FakeModel
from PIL import Image

from deployments.limits import Limits
from nullscale.maths.params import UpscaleParams
from sr_engine.engine import SREngine

LIMITS = Limits(max_input_pixels=2**22, max_output_pixels=2**22, max_body_bytes=2**24)
NOISE = np.random.default_rng(0).integers(0, 256, (900, 800, 3), dtype=np.uint8)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever opens a file to write it fails."""
    os_open, io_open = os.open, io.open

    def open_fd(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return os_open(path, flags, *args, **kwargs)

    def open_file(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wax+") and "opener" not in kwargs:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)
        return io_open(file, mode, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_fd)
    for module in (io, builtins):
        monkeypatch.setattr(module, "open", open_file)


@pytest.mark.usefixtures("full_disk")
def test_the_disk_is_full() -> None:
    for create in (tempfile.TemporaryFile, tempfile.NamedTemporaryFile, tempfile.mkstemp):
        with pytest.raises(OSError, match="No space left"):
            create()
    with pytest.raises(OSError, match="No space left"), open(os.devnull, "w"):
        pass


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
async def test_uploads_and_answers_need_no_disk(output_format: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "PNG")
    upload = buffer.getvalue()
    # Above the size from which Starlette, left alone, writes uploads to a temporary file.
    assert len(upload) > 2 * 2**20
    async with client(FakeUpscaler(), limits=LIMITS) as http:
        fields = {"scale": "1.1", "output_format": output_format}
        response = await send(http, upload, **fields)
        job = await send(http, upload, {"Prefer": "respond-async"}, **fields)
        events = await http.get(f"{job.headers['location']}/events")
        assert "event: done" in events.text
    assert response.status_code == 200, response.text
    with Image.open(io.BytesIO(response.content)) as image:
        assert image.size == (880, 990)


@pytest.mark.usefixtures("full_disk")
def test_the_engine_needs_no_disk() -> None:
    params = UpscaleParams(num_inference_steps=2, scale=2, seed=1)
    assert SREngine(FakeModel()).upscale(NOISE[:20, :30], params).image.shape == (40, 60, 3)
