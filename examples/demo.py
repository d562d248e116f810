"""Start the service, upscale one photo through HTTP, and stop what was started.

Run by `make demo`; writes the answer and a bicubic enlargement side by side into `demo/`.
"""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "examples" / "coffee-small.png"
OUTPUT = ROOT / "demo"
PROXY_HOOK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
URL = "http://127.0.0.1:8000"
START_LIMIT_S = 300
UPSCALE_LIMIT_S = 300


def main() -> None:
    with service() as log:
        print(f"the service is ready on {URL} (its log: {log.relative_to(ROOT)})", flush=True)
        small = Image.open(PHOTO).convert("RGB")
        started = time.monotonic()
        answer = httpx.post(
            f"{URL}/v1/upscale",
            files={"image": (PHOTO.name, PHOTO.read_bytes(), "image/png")},
            data={"scale": "4"},
            timeout=UPSCALE_LIMIT_S,
        )
        seconds = time.monotonic() - started
        if answer.status_code != 200:
            sys.exit(f"the service answered {answer.status_code}: {answer.text}")
    large = Image.open(io.BytesIO(answer.content))
    (OUTPUT / "coffee-x4.png").write_bytes(answer.content)
    enlarged = small.resize(large.size, Image.Resampling.BICUBIC)
    enlarged.save(OUTPUT / "coffee-bicubic.png")
    beside = Image.new("RGB", (2 * large.width, large.height))
    beside.paste(enlarged, (0, 0))
    beside.paste(large, (large.width, 0))
    beside.save(OUTPUT / "bicubic-and-nullscale.png")

    back = np.asarray(large.resize(small.size, Image.Resampling.BICUBIC))
    share = np.mean(back == np.asarray(small))
    width, height = small.size
    print(f"{width}×{height} → {large.width}×{large.height}, model {answer.headers['x-model']}")
    print(f"seed        {answer.headers['x-seed']}")
    print(f"time        {seconds:.1f} s")
    print(f"round trip  {share:.2%} of the input's samples come back through Pillow's own bicubic")
    print(f"pictures    {OUTPUT.relative_to(ROOT)}/bicubic-and-nullscale.png")
    if large.size != (4 * width, 4 * height) or share < 1:
        sys.exit("the answer is not what was promised")


@contextmanager
def service() -> Iterator[Path]:
    """Run `serve run` on the CPU configuration until the block ends; yield its log."""
    if _answers():
        sys.exit(f"something is already listening on {URL}: stop it first")
    OUTPUT.mkdir(exist_ok=True)
    log = OUTPUT / "serve.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [Path(sys.executable).parent / "serve", "run", "serve_config.cpu.yaml"],
            cwd=ROOT,
            # A Ray of its own, whatever other cluster this machine knows of.
            env={**os.environ, "RAY_ADDRESS": "local", PROXY_HOOK: "deployments.proxy.middlewares"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(server, log)
        yield log
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_until_ready(server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"the service did not start:\n{log.read_text()[-3000:]}")
        if _answers():
            return
        time.sleep(1)
    sys.exit(f"the service was not ready after {START_LIMIT_S} s:\n{log.read_text()[-3000:]}")


def _answers() -> bool:
    try:
        return httpx.get(f"{URL}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
