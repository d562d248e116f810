"""The decision's properties, and what Serve's own wrapper makes of the policy."""

import logging
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.serve._private.common import DeploymentID, TimeStampedValue
from ray.serve.autoscaling_policy import _apply_app_level_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.autoscaling import ByWork, load_of
from deployments.sizing import Decision, Load, Memory, Settings, decide
from deployments.workload import COUNTED_S, WINDOWS_S, Workload, told_as

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(
    target_wait_s=10,
    recover_s=20,
    utilisation=0.8,
    shrink_delay_s=120,
    sleep_delay_s=600,
    start_s=60,
)
LOAD = Load(
    now_s=1000.0,
    outstanding_s=0.0,
    arriving=0.0,
    lately=False,
    waiting=False,
    running=1,
    target=1,
    least=1,
    most=32,
)


@st.composite
def loads(draw: st.DrawFn) -> Load:
    least = draw(st.integers(0, 4))
    most = draw(st.integers(max(1, least), 40))
    target = draw(st.integers(0, 45))
    return Load(
        now_s=draw(st.floats(0, 1e9)),
        outstanding_s=draw(st.floats(0, 1e5)),
        arriving=draw(st.floats(0, 100)),
        lately=draw(st.booleans()),
        waiting=draw(st.booleans()),
        running=draw(st.integers(0, target)),
        target=target,
        least=least,
        most=most,
        start_s=draw(st.none() | st.floats(0.1, 600)),
    )


def follow(
    work: Iterable[tuple[float, float]], load: Load = LOAD, start_s: float = 60.0
) -> Iterator[Decision]:
    """Decide once a second about (outstanding_s, arriving); replicas start as they do."""
    memory: Memory | None = None
    coming: list[float] = []
    for outstanding_s, arriving in work:
        running = load.target - sum(at > load.now_s for at in coming)
        load = replace(load, outstanding_s=outstanding_s, arriving=arriving, running=running)
        decision = decide(SETTINGS, load, memory)
        memory = decision.memory
        coming += [load.now_s + start_s] * (decision.replicas - load.target)
        load = replace(load, target=decision.replicas, now_s=load.now_s + 1)
        yield decision


@given(loads())
def test_it_stays_within_the_bounds(load: Load) -> None:
    assert load.least <= decide(SETTINGS, load, None).replicas <= load.most


@given(loads(), st.floats(0, 1e5), st.floats(0, 100))
def test_more_work_never_means_fewer_replicas(load: Load, backlog: float, rate: float) -> None:
    fewer = decide(SETTINGS, load, None).replicas
    more = replace(load, outstanding_s=load.outstanding_s + backlog, arriving=load.arriving + rate)
    assert decide(SETTINGS, more, None).replicas >= fewer


@given(st.lists(st.tuples(st.floats(0, 2000), st.floats(0, 30)), min_size=2, max_size=200))
def test_nothing_that_was_needed_within_the_delay_goes(work: list[tuple[float, float]]) -> None:
    decisions = list(follow(work))
    needs = [max(1, math.ceil(max(d.keep_up, d.catch_up) - 1e-6)) for d in decisions]
    for number in range(1, len(decisions)):
        before, now = decisions[number - 1].replicas, decisions[number].replicas
        if now < before:
            window = needs[max(0, number - int(SETTINGS.shrink_delay_s) + 1) : number + 1]
            assert now >= min(before, *[max(window)])


@given(st.integers(2, 30))
def test_what_nothing_is_known_of_stays_for_the_delay(target: int) -> None:
    load = replace(LOAD, target=target, running=target)
    decisions = list(follow([(0.0, 0.0)] * 130, load))
    assert [d.replicas for d in decisions] == [target] * 120 + [1] * 10


def test_constant_load_does_not_oscillate() -> None:
    rng = Random(1)
    noisy = [(rng.uniform(0, 8), rng.uniform(5.0, 6.3)) for _ in range(3600)]
    replicas = [d.replicas for d in follow(noisy, replace(LOAD, target=8, running=8))]
    assert set(replicas) == {8}


def test_a_burst_is_answered_by_one_jump() -> None:
    """A fluid queue: 0.6 replicas' work, then 12, against as many replicas as run."""
    outstanding_s, seen, arriving = 0.0, [], 0.6

    def work() -> Iterator[tuple[float, float]]:
        nonlocal outstanding_s, arriving
        for second in range(700):
            arriving = 0.6 if second < 100 else 12.0
            running = 1 if second < 161 or not seen else seen[100]
            outstanding_s = max(0.0, outstanding_s + arriving - running)
            yield outstanding_s, arriving

    for decision in follow(work()):
        seen.append(decision.replicas)
    assert seen[:100] == [1] * 100
    grown = seen[100]
    # 11 s/s pile up for a minute; that and the work of the recovery, over both times.
    assert grown == pytest.approx((660 + 12 * 20) / 30, abs=1)
    assert set(seen[100:160]) <= {grown, grown + 1}
    assert max(seen) <= grown + 1
    assert seen[-1] == 15, "what keeps up at 0.8"
    jumps = [b - a for a, b in pairwise(seen) if a != b]
    assert sum(jump > 0 for jump in jumps) <= 2


def test_zero_is_left_at_once_and_reached_late() -> None:
    load = replace(LOAD, least=0, target=0, running=0)
    assert decide(SETTINGS, load, None).replicas == 0
    assert decide(SETTINGS, replace(load, waiting=True), None).replicas == 1
    assert decide(SETTINGS, replace(load, outstanding_s=0.1), None).replicas == 1
    assert decide(SETTINGS, replace(load, outstanding_s=900.0), None).replicas == 30
    work = [(1.0, 0.0)] * 10 + [(0.0, 0.0)] * 700
    replicas = [d.replicas for d in follow(work, load)]
    # The start takes the first 60 s; the work ends within it.
    assert replicas == [1] * 659 + [0] * 51
    memory = None
    for second in range(2000):
        starting = replace(load, target=1, now_s=load.now_s + second)
        decision = decide(SETTINGS, starting, memory)
        memory = decision.memory
        assert decision.replicas == 1, "a start is not broken off"


def test_probes_keep_no_replica_awake() -> None:
    load = replace(LOAD, least=0, waiting=True)
    replicas = [d.replicas for d in follow([(1.0, 0.0)] * 10 + [(0.0, 0.0)] * 620, load)]
    # The last work is that of the tenth second. Asked for at zero, one would start again.
    assert replicas[:609] == [1] * 609
    assert replicas[609] == 0


def test_work_that_is_done_between_two_looks_keeps_one_awake() -> None:
    load, memory, replicas = replace(LOAD, least=0), None, []
    for second in range(2700):
        lately = second <= 2000 and second % 10 < 3
        seen = replace(load, now_s=load.now_s + second, lately=lately)
        decision = decide(SETTINGS, seen, memory)
        memory = decision.memory
        replicas.append(decision.replicas)
    assert replicas == [1] * 2600 + [0] * 100


def test_with_a_least_number_it_does_not_sleep() -> None:
    assert {d.replicas for d in follow([(0.0, 0.0)] * 2000)} == {1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_wait_s": 0.0},
        {"utilisation": 1.1},
        {"utilisation": 0.0},
        {"shrink_delay_s": -1.0},
        {"start_s": math.inf},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ByWork(**wrong)


def context(
    name: str,
    *,
    least: int = 1,
    most: int = 32,
    running: int = 1,
    target: int = 1,
    requests: float = 0.0,
    now_s: float = 1000.0,
    told: dict[str, list[float]] | None = None,
) -> AutoscalingContext:
    """Serve's own context; ``told`` has the last values of each replica by name."""
    raw = {
        metric: {
            number: [TimeStampedValue(now_s - 1, 0.0), TimeStampedValue(now_s, value)]
            for number, value in enumerate(values)
        }
        for metric, values in (told or {}).items()
    }
    return AutoscalingContext(
        deployment_id=DeploymentID(name, "app"),
        deployment_name=name,
        app_name="app",
        current_num_replicas=running,
        target_num_replicas=target,
        running_replicas=[],
        total_num_requests=requests,
        total_queued_requests=0.0,
        aggregated_metrics={},
        raw_metrics=raw,
        capacity_adjusted_min_replicas=least,
        capacity_adjusted_max_replicas=most,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=now_s,
        config=AutoscalingConfig(
            min_replicas=least,
            max_replicas=most,
            target_ongoing_requests=32,
            upscale_delay_s=0,
            downscale_delay_s=0,
        ),
    )


def arriving(*each: float) -> dict[str, list[float]]:
    """So many engine seconds a second at each process, evenly, for as long as anyone counts."""
    totals = {told_as(window_s)[0]: [window_s * rate for rate in each] for window_s in WINDOWS_S}
    return {COUNTED_S: [float(WINDOWS_S[-1])] * len(each), **totals}


def asked(policy: ByWork, *contexts: AutoscalingContext) -> dict[str, Any]:
    """What Serve decides with the policy, by deployment."""
    wrapped = _apply_app_level_autoscaling_config(policy)
    replicas, _ = wrapped({each.deployment_id: each for each in contexts})
    return {deployment.name: number for deployment, number in replicas.items()}


def test_serve_takes_its_word_for_all_deployments(caplog: pytest.LogCaptureFixture) -> None:
    told = {"outstanding_work_s": [40.0, 50.0], **arriving(5.0, 7.0)}
    jobs = {"outstanding_work_s": [10.0], **arriving(0.0)}
    with caplog.at_level(logging.INFO, logger="ray.serve"):
        replicas = asked(
            ByWork(recover_s=20, start_s=25),
            context("Ingress", least=2, most=4, requests=100.0, told=told),
            context("Jobs", most=1, told=jobs),
            context("Upscaler", told={"start_s": [30.0, 20.0]}),
        )
    # (100 + 11 × 30 + 12 × 20) / 30; the ingress as by Serve's own rule.
    assert replicas == {"Upscaler": 23, "Ingress": 4}
    (line,) = [record.getMessage() for record in caplog.records]
    assert "from 1 to 23" in line and "100.0 s of work" in line and "12.00 s come" in line
    assert "a start takes 30 s" in line


@given(
    st.lists(st.integers(700, 999), min_size=1, max_size=8),
    st.lists(
        st.tuples(st.floats(700, 1000.5), st.floats(0.01, 100), st.integers(0, 7)), max_size=60
    ),
)
def test_processes_tell_together_what_has_come(
    begun_s: list[int], pictures: list[tuple[float, float, int]]
) -> None:
    now_s = [0.0]
    processes = []
    for now_s[0] in sorted(begun_s):
        processes.append(Workload(lambda: now_s[0]))
        processes[-1].guess(0.5)
    came = []
    for at_s, work, process in sorted(pictures):
        which = process % len(processes)
        if at_s >= sorted(begun_s)[which]:
            now_s[0] = at_s
            processes[which].arrive(work)
            came.append((at_s, 0.5 * work))
    now_s[0] = 1000.5
    told = [process.arrived() for process in processes]
    ingress = context("Ingress", told={name: [each[name] for each in told] for name in told[0]})
    with mock.patch("deployments.autoscaling.present_rate", return_value=0.0) as asked_of:
        load = load_of(context("Upscaler"), [ingress])
    (windows,) = asked_of.call_args.args
    counted_s = max(10, 1000 - min(begun_s))
    for window_s, window in zip(WINDOWS_S, windows, strict=True):
        within = [work for at_s, work in came if 1000 - window_s <= int(at_s) < 1000]
        assert window.seconds == min(window_s, counted_s)
        assert window.total == pytest.approx(sum(within))
        assert window.squares == pytest.approx(sum(work**2 for work in within))
    assert load.lately == any(int(at_s) in (997, 998, 999) for at_s, _ in came)


def test_out_of_zero_it_is_one_jump_too() -> None:
    told = {"outstanding_work_s": [300.0], **arriving(0.0)}
    upscaler = context("Upscaler", least=0, running=0, target=0, requests=16.0)
    assert asked(ByWork(recover_s=20), context("Ingress", most=4, told=told), upscaler) == {
        "Ingress": 0,
        "Upscaler": 10,
    }
    silent = context("Upscaler", least=0, running=0, target=0, requests=1.0)
    assert asked(ByWork(), context("Ingress", most=4), silent)["Upscaler"] == 1
    idle = context("Upscaler", least=0, running=0, target=0)
    assert asked(ByWork(), context("Ingress", most=4), idle)["Upscaler"] == 0


def test_a_start_takes_what_the_settings_say_at_the_least() -> None:
    told, memory = replace(LOAD, outstanding_s=9.0, arriving=5.0, start_s=20.0), None
    assert decide(SETTINGS, told, memory) == decide(SETTINGS, replace(told, start_s=None), memory)
    longer = decide(SETTINGS, replace(told, start_s=90.0), memory)
    assert longer.replicas > decide(SETTINGS, told, memory).replicas


def test_the_last_start_is_remembered_at_zero() -> None:
    policy = ByWork(start_s=60, recover_s=20)
    told = {"outstanding_work_s": [0.0], **arriving(1.0)}
    ingress = context("Ingress", most=4, told=told)
    asked(policy, ingress, context("Upscaler", least=0, told={"start_s": [600.0]}))
    asleep = context("Upscaler", least=0, running=0, target=0, now_s=1001.0)
    # 600 s of arrivals by the first start's time, over 30; the guess would make it 3.
    assert asked(policy, ingress, asleep)["Upscaler"] == 21


def test_importing_the_policy_is_light() -> None:
    code = (
        "import sys, deployments.autoscaling, deployments.workload\n"
        "print(*{m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))"
    )
    # Without site-packages nothing else could be imported.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"__main__", "deployments"}
