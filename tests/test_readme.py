"""Every command of the README, run as it stands there."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
# Run by continuous integration itself, or in need of GPUs.
ELSEWHERE = {"make demo", "make test", "serve run serve_config.yaml"}
URL = "http://127.0.0.1:8000"
START_S = 300


def commands() -> list[str]:
    """Return the indented lines of the README that are commands."""
    return re.findall(r"^ {4}((?:make|curl|serve|\.venv/bin)\b.*)$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the project's own to the commands of the README, run in order."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(BIN)
    return folder


def test_each_command_has_its_test() -> None:
    kinds = {command.split()[0] for command in commands() if command not in ELSEWHERE}
    assert kinds == {"curl", ".venv/bin/nullscale"}
    assert set(commands()) >= ELSEWHERE


def test_no_gap_is_left_and_every_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text()
        assert not re.search(r"@[A-Z]+@", text), page
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), (page, target)


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith(".venv")])
def test_commands_of_the_command_line(command: str, folder: Path) -> None:
    subprocess.run(command, shell=True, cwd=folder, check=True)
    if "-o large.png" in command:
        with Image.open(folder / "large.png") as large:
            assert large.size == (600, 400)


@pytest.mark.parametrize(
    ("page", "words"),
    [("README.md", ["exact_share="]), ("docs/engine.md", ["StepEvent(", "30 px 1.0"])],
)
def test_python_of_the_pages(page: str, words: list[str], folder: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    done = [
        subprocess.run(
            [sys.executable, "-c", block], cwd=folder, check=True, capture_output=True, text=True
        )
        for block in blocks
    ]
    for word in words:
        assert any(word in each.stdout for each in done)


@pytest.fixture
def served() -> Iterator[None]:
    """`make serve`, until the test ends."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8000)) == 0:
            pytest.skip("something else is listening on port 8000")
    server = subprocess.Popen(
        ["make", "serve"],
        cwd=ROOT,
        # A Ray of its own, whatever other cluster this machine knows of.
        env={**os.environ, "RAY_ADDRESS": "local", "RAY_worker_niceness": "0"},
        start_new_session=True,
        # What a shell has started in the background would ignore it, and so would all of these.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline_s = time.monotonic() + START_S
        while not ready():
            assert server.poll() is None, "make serve ended"
            assert time.monotonic() < deadline_s, "make serve was not ready in time"
            time.sleep(1)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def ready() -> bool:
    try:
        return httpx.get(f"{URL}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("served")
def test_the_request_to_the_running_service(folder: Path) -> None:
    assert shutil.which("curl"), "the README's request needs curl"
    (command,) = (c for c in commands() if c.startswith("curl"))
    subprocess.run(command, shell=True, cwd=folder, check=True)
    with Image.open(folder / "large.png") as large:
        assert large.size == (600, 400)
    assert httpx.get(f"{URL}/docs").status_code == 200
