"""Sizing a cluster: what is read, and what a count of GPUs is said to make of a load."""

import json

import pytest
from typer.testing import CliRunner

from nullscale.commands.main import app
from nullscale.errors import InvalidParameter
from nullscale.maths.params import UpscaleParams
from nullscale.simulation.capacity import Service, Size, load_of, parse_counts, parse_mix, predict
from nullscale.simulation.devices import find_device
from nullscale.simulation.traffic import Arrival

DEVICE = find_device("sd3.5-medium-h100")
# One native tile, two steps: two transformers, two decoders and one encoder.
TWO_STEPS_S = 2 * 0.0141 + 2 * 0.0131 + 0.0061
PARAMS = UpscaleParams(num_inference_steps=2)
NUMBERS = ("inf", "nan", "-1", "1e308")


def load(per_hour: float, mix: str = "256x256:4:1", requests: int = 300) -> list[Arrival]:
    return load_of(parse_mix(mix), PARAMS, DEVICE, per_hour=per_hour, requests=requests)


def test_a_mix_and_counts_are_read() -> None:
    assert parse_mix("512x256:4:70,1x2:1.5:.3") == (
        Size(512, 256, 4.0, 70.0),
        Size(1, 2, 1.5, 0.3),
    )
    assert parse_counts("8,1-3,2") == (1, 2, 3, 8)


@pytest.mark.parametrize(
    "mix",
    [
        *("", "4x4:4", "4x4:4:1,", "4:4:1", "0x4:4:1", "4x4:17:1", "4x4:nan:1", "4x4:4:0"),
        *("1x1:4:1", "4x4:4:inf", "4x4:4:1e308,8x8:4:1e308"),
    ],
)
def test_what_is_no_mix_is_refused(mix: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse_mix(mix)
    assert refused.value.field == "mix"


@pytest.mark.parametrize("counts", ["", "0", "a", "3-2", "1-", "1-2000", "-1"])
def test_what_are_no_counts_is_refused(counts: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_counts(counts)


def test_weights_choose_sizes_and_the_rate_is_what_was_asked() -> None:
    arrivals = load(7200, "256x256:4:3,128x128:4:1", requests=2000)
    assert sum(a.tag == "0" for a in arrivals) / 2000 == pytest.approx(0.75, abs=0.04)
    assert arrivals[-1].at_s == pytest.approx(1000, rel=0.1)
    works = {a.tag: a.work_s for a in arrivals}
    assert works["0"] == pytest.approx(TWO_STEPS_S)


def test_hardly_any_load_waits_for_nothing() -> None:
    (found,) = predict(load(60), [1], Service(DEVICE, added_s=1.0))
    assert found.p50_s == pytest.approx(1 + TWO_STEPS_S, rel=0.05)
    assert found.full_per_hour == pytest.approx(3600 / TWO_STEPS_S, rel=0.02)


def test_more_gpus_wait_less_and_too_few_for_ever() -> None:
    arrivals = load(1.5 * 3600 / TWO_STEPS_S)
    rate = 299 / (arrivals[-1].at_s - arrivals[0].at_s)
    one, *others = predict(arrivals, [1, 2, 3, 8], Service(DEVICE))
    assert one.utilisation == pytest.approx(rate * TWO_STEPS_S, rel=0.02) and one.utilisation > 1
    assert one.p95_s is None and not one.meets(1e9)
    times = [found.p95_s for found in others if found.p95_s is not None]
    assert len(times) == 3 and times == sorted(times, reverse=True)
    for found in others:
        assert found.p50_s is not None and found.p99_s is not None and found.p95_s is not None
        assert found.p50_s <= found.p95_s <= found.p99_s


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", *words])
    return result.exit_code, result.output


def test_the_command_names_the_smallest_count_that_will_do() -> None:
    load = ("--rate", "70000", "--num-inference-steps", "2", "--requests", "150", "--gpus", "1-3")
    code, output = call(*load, "--target-p95", "1", "--json", "--added-ms", "0")
    found = json.loads(output[output.index("{") :])
    assert code == 0
    assert [row["gpus"] for row in found["gpus"]] == [1, 2, 3]
    assert found["enough_gpus"] == 2
    code, output = call(*load, "--target-p95", "0.01")
    assert code == 0 and "grows" in output and "is met by none" in output
    assert "Simulated" in output


@pytest.mark.parametrize(
    "words",
    [
        *(("--gpus", "x"), ("--gpu", "abacus"), ("--projection", "x")),
        *(("--mix", "x"), ("--mix", "4x4:17:1"), ("--mix", "1x1:4:1")),
        ("--mix", "256x256:4:1e308,256x256:4:1e308"),
        *(("--num-inference-steps", "0"), ("--guidance-scale", "nan")),
        *((option, bad) for option in ("--rate", "--added-ms", "--target-p95") for bad in NUMBERS),
    ],
)
def test_a_wrong_call_says_what_is_wrong(words: tuple[str, str]) -> None:
    code, output = call(*(() if words[0] == "--rate" else ("--rate", "100")), *words)
    assert code == 2 and words[0] in output
