"""The GPU's benchmark runs, without a GPU; its figures then mean nothing, and say so."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from gpu_processes import said_by
from gpu_report import Report

ROOT = Path(__file__).parents[2]
SCRIPT = "load_tests/bench_gpu.py"
# A bare machine has no Ray, and nothing of the tests.
WITHOUT = "import sys, runpy; sys.modules.update(dict.fromkeys(('ray', 'pytest', 'psutil')))"


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    code = f"{WITHOUT}; sys.argv = [{SCRIPT!r}, '--dry-run']; runpy.run_path({SCRIPT!r}, "
    done = subprocess.run(
        [sys.executable, "-c", code + "run_name='__main__')"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_measurement_succeeds_and_is_marked(lines: list[dict[str, Any]]) -> None:
    *measured, last = lines
    assert last["figures"] == measured
    assert last["dry_run"] and last["machine"]["gpu"] is None
    assert all(line["dry_run"] for line in measured)
    assert not [line for line in measured if "error" in line or "skipped" in line]
    names = list(dict.fromkeys(line["measurement"] for line in measured))
    assert names == [
        "limits",
        "same_image",
        "build",
        "load",
        "phase",
        "projection",
        "rounding",
        "one_picture",
        "cheaper",
        "saturated",
        "mixed",
        "short",
        "quantized",
    ]


def test_phases_are_compared_with_stock_and_with_the_floor(lines: list[dict[str, Any]]) -> None:
    phases = [line for line in lines if line.get("measurement") == "phase"]
    found = {
        (one["model"], one["how"], one["phase"], one["side_px"], one["rows"]) for one in phases
    }
    assert len(found) == len(phases) == 2 * 2 * 2 * (3 + 1)
    for one in phases:
        assert one["floor_s"] > 0
        assert one["over_floor"] == pytest.approx(one["seconds"] / one["floor_s"], rel=1e-2)


def test_pictures_come_in_every_way_of_serving(lines: list[dict[str, Any]]) -> None:
    mixed = {line["how"]: line for line in lines if line.get("measurement") == "mixed"}
    assert set(mixed) == {"ours", "one at a time", "whole requests"}
    for one in mixed.values():
        assert one["finished"] == 4
        assert 0 < one["efficiency"] <= 1
        assert 0 < one["p50_s"] <= one["p95_s"]
    assert 0 < mixed["ours"]["occupancy"] <= 1
    short = [line for line in lines if line.get("measurement") == "short"]
    assert len(short) == 2
    assert all(one["finished"] == one["asked"] for one in short)
    assert all(one["out_of_memory"] for one in short)


def test_fewer_bits_are_measured_or_it_is_said_why_not(lines: list[dict[str, Any]]) -> None:
    quantized = [line for line in lines if line.get("measurement") == "quantized"]
    assert len({(one["model"], one["quantize"]) for one in quantized}) == len(quantized) == 2 * 2
    for one in quantized:
        if one["quantize"] == "nf4":
            assert "needs a CUDA device" in one["unavailable"]
        elif find_spec("torchao") is None:
            assert "needs the library torchao" in one["unavailable"]
        else:
            assert one["weights_bytes"] < one["exact_weights_bytes"]
            assert 0 < one["relative_difference"] < 0.2


def test_the_engine_draws_nearly_the_naive_loops_picture(lines: list[dict[str, Any]]) -> None:
    (one,) = (line for line in lines if line.get("measurement") == "one_picture")
    assert one["speedup"] == pytest.approx(one["naive_s"] / one["ours_s"], rel=1e-2)
    assert one["psnr_db"] > 30
    cheaper = [line for line in lines if line.get("measurement") == "cheaper"]
    assert [line["how"] for line in cheaper] == ["draft", "draft, every other step projected"]
    for line in cheaper:
        assert line["speedup"] == pytest.approx(one["naive_s"] / line["ours_s"], rel=1e-2)


def test_without_a_gpu_it_says_so_and_keeps_nothing() -> None:
    for words, said in (([], "no CUDA device"), (["--dry-run", "--save"], "are not kept")):
        done = subprocess.run(
            [sys.executable, SCRIPT, *words], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2 and said in done.stderr


def test_what_a_script_leaves_unsaid_is_an_error(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('{\"one\": 1}'); raise SystemExit('no more')")
    said = said_by(str(script), left_s=60)
    assert next(said) == {"one": 1}
    with pytest.raises(RuntimeError, match="no more"):
        next(said)


def test_a_process_ends_when_the_time_is_up(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import time; print('{\"one\": 1}', flush=True); time.sleep(60)")
    report = Report(3)
    said = said_by(str(script), left_s=report.left_s())
    assert next(said) == {"one": 1}
    assert report.left_s() == pytest.approx(0, abs=1)
    with pytest.raises(RuntimeError, match="still running after 3 s"):
        next(said)


def test_what_fails_is_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> dict[str, Any]:
        raise ValueError("no\nsuch thing")

    report = Report(100, mark=1)
    assert report.measure("one", fail, rows=8) == {}
    assert report.measure("two", lambda: {"seconds": 1}) == {"seconds": 1}
    Report(0).measure("three", fail)
    one, two, three = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (one["error"], one["rows"], one["mark"]) == ("ValueError: no such thing", 8, 1)
    assert two["seconds"] == 1 and "error" not in two
    assert three["skipped"] == "no time left"
