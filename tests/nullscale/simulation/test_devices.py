"""The table of devices, and how a measured one comes into it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from device_table import entries

from nullscale.scheduling.work import Kind, Phase
from nullscale.simulation.devices import DEVICES, read_devices

ROOT = Path(__file__).parents[3]
ONCE = {"denoise": 0.002, "decode": 0.004, "encode": 0.001}
EACH = {"denoise": 0.018, "decode": 0.026, "encode": 0.014}


def result(dry_run: bool = False) -> dict[str, Any]:
    """What bench_gpu.py says of a GPU whose batches cost something once and something a row."""
    lines: list[dict[str, Any]] = []
    for model, factor in (("sd3.5-medium", 1), ("sd3.5-large", 3)):
        lines.append({"measurement": "build", "model": model, "native_px": 1024})
        for phase in ("denoise", "decode", "encode") if factor == 1 else ("denoise",):
            common = {"measurement": "phase", "model": model, "phase": phase}
            for rows in (1, 2, 4):
                seconds = factor * (ONCE[phase] + EACH[phase] * rows)
                told = {"how": "ours", "side_px": 1024, "rows": rows, "seconds": seconds}
                lines.append(common | told)
                lines.append(common | told | {"how": "stock", "seconds": 9.9})
                lines.append(common | told | {"side_px": 512, "seconds": 9.9})
            failed = {"how": "ours", "side_px": 1024, "rows": 8, "error": "out of memory"}
            lines.append(common | failed)
    machine = {"gpu": "NVIDIA H100 80GB HBM3", "torch": "2", "date": "d", "command": "c"}
    return {"dry_run": dry_run, "machine": machine, "figures": lines}


def test_the_published_figures() -> None:
    medium = DEVICES["sd3.5-medium-h100"]
    assert medium.native == 128
    assert medium.batch_s(Kind(Phase.DENOISE, 128, 128), 1) == pytest.approx(0.0141)
    assert DEVICES["sd3.5-large-h100"].alone_s[Phase.DENOISE] == 0.0389


def test_what_was_measured_comes_out_of_the_table_again(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(result()))
    table = tmp_path / "table.json"
    table.write_text('{"other": {"native": 1, "alone_s": {}, "shared": 0}}')
    tool = [sys.executable, "tools/device_table.py", tmp_path / "result.json", "--table", table]
    subprocess.run(tool, cwd=ROOT, check=True, capture_output=True)
    devices = read_devices(table)
    assert set(devices) == {"other", "sd3.5-medium-h100", "sd3.5-large-h100"}
    medium = devices["sd3.5-medium-h100"]
    assert medium.native == 128
    for phase in Phase:
        alone_s = medium.batch_s(Kind(phase, 128, 128), 1)
        assert alone_s == pytest.approx(ONCE[phase] + EACH[phase], rel=1e-3)
    assert medium.shared == pytest.approx(
        sum(ONCE.values()) / sum((*ONCE.values(), *EACH.values())), rel=1e-3
    )
    # The large model's own denoiser, and the same autoencoder.
    large = devices["sd3.5-large-h100"]
    assert large.alone_s[Phase.DENOISE] == pytest.approx(3 * 0.02, rel=1e-3)
    assert large.alone_s[Phase.DECODE] == medium.alone_s[Phase.DECODE]


def test_a_dry_run_is_no_device() -> None:
    with pytest.raises(ValueError, match="measures nothing"):
        entries(result(dry_run=True))


def test_a_missing_phase_is_told() -> None:
    told = result()
    told["figures"] = [line for line in told["figures"] if line.get("phase") != "encode"]
    with pytest.raises(ValueError, match=r"sd3\.5-medium: no encode of 1024 px"):
        entries(told)
