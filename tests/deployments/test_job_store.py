"""The bounds of the job store, on a clock that is set by hand."""

from dataclasses import replace

import numpy as np
import pytest

from deployments.job_store import Idempotency, Job, JobStore
from deployments.limits import JobSettings
from deployments.messages import Order
from deployments.pictures import Picture
from deployments.problems import Problem
from deployments.schemas import JobState, TimingsMs
from nullscale.imaging.image_io import SourceImage
from nullscale.maths.consistency import Consistency
from nullscale.maths.params import UpscaleParams


class Clock:
    """Time as the test wants it."""

    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def order() -> Order:
    source = SourceImage(
        samples=np.zeros((10, 10, 3), np.uint8), alpha=None, exif=None, xmp=None, bit_depth=8
    )
    return Order(
        source=source,
        params=UpscaleParams(seed=1),
        output_format="png",
        output_quality=None,
        until_s=0.0,
        decode_ms=0.0,
    )


def result(size: int = 100) -> Picture:
    return Picture(
        encoded=bytes(size),
        media_type="image/png",
        width=1,
        height=1,
        input_bit_depth=8,
        seed=1,
        model="m",
        consistency=Consistency(exact=True, exact_share=1.0, reachable=True, psnr_db=None),
        timings=TimingsMs(decode=0, queue=0, upscale=0, encode=0),
    )


def add(store: JobStore, owner: str = "a", key: str | None = None) -> Job:
    idempotency = None if key is None else Idempotency(key, "digest")
    return store.add(order(), owner, "request", idempotency)[0]


def code_of(store: JobStore, job: Job, owner: str = "a") -> str:
    try:
        store.find(job.job_id, owner)
    except Problem as err:
        return err.code
    return "here"


def test_a_job_expires_is_remembered_and_forgotten() -> None:
    clock = Clock()
    store = JobStore(JobSettings(keep_s=60, forget_s=600), clock)
    job, waiting = add(store, key="k"), add(store)
    store.end(job, result())
    clock.now_s += 59
    assert code_of(store, job) == "here" and add(store, key="k") is job
    clock.now_s += 1
    assert code_of(store, job) == "job_expired"
    assert add(store, key="k") is not job, "the key may be used again"
    clock.now_s += 600
    assert code_of(store, job) == "job_not_found"
    assert code_of(store, waiting) == "here", "what has not ended does not expire"


def test_jobs_are_their_owners_alone() -> None:
    store = JobStore(JobSettings())
    job, other = add(store, "a", "k"), add(store, "b", "k")
    assert job is not other
    assert code_of(store, job, "b") == "job_not_found"
    store.end(job, result())
    store.drop(job)
    assert (code_of(store, job, "a"), code_of(store, job, "b")) == ("job_expired", "job_not_found")


def test_results_are_bounded_in_bytes_and_the_oldest_go_first() -> None:
    store = JobStore(JobSettings(max_bytes=1000))
    jobs = [add(store) for _ in range(3)]  # their inputs have 300 bytes each
    for job in jobs:
        store.end(job, result(400))
    assert [code_of(store, job) for job in jobs] == ["job_expired", "here", "here"]
    last = add(store)
    store.end(last, result(5000))
    assert code_of(store, last) == "here", "its owner has just been told that it is done"
    assert code_of(store, jobs[-1]) == "job_expired"


def test_inputs_are_bounded_in_bytes_with_their_metadata() -> None:
    store = JobStore(JobSettings(max_bytes=1000))
    for _ in range(3):
        add(store)
    with pytest.raises(Problem) as refused:
        add(store)
    assert refused.value.code == "overloaded"
    heavy = JobStore(JobSettings(max_bytes=1000))
    source = replace(order().source, xmp=bytes(800))
    with pytest.raises(Problem, match="too many"):
        heavy.add(replace(order(), source=source), "a", "request", None)


def test_the_number_of_results_is_bounded() -> None:
    store = JobStore(JobSettings(max_kept=2))
    jobs = [add(store) for _ in range(3)]
    for job in jobs:
        store.end(job, result())
    assert [code_of(store, job) for job in jobs] == ["job_expired", "here", "here"]


def test_keys_take_turns() -> None:
    clock = Clock()
    store = JobStore(JobSettings(), clock)
    jobs = {}
    for owner, name in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2")]:
        clock.now_s += 1
        jobs[add(store, owner).job_id] = name
    names = [jobs[job.job_id] for job in store.waiting()]
    assert names == ["a1", "b1", "a2", "b2", "a3"]
    store.start(store.waiting()[0])
    assert [jobs[job.job_id] for job in store.waiting()] == ["b1", "a2", "b2", "a3"]
    assert store.running() == 1


def test_events_are_bounded_and_old_previews_dropped() -> None:
    job = add(JobStore(JobSettings()))
    for step in range(1000):
        job.tell("step", {"step": step})
        job.tell("preview", {"image": "x"})
        job.tell("queued", {"position": step})
    for name, kept in (("preview", 1), ("queued", 1), ("step", 1000)):
        assert sum(event.name == name for event in job.events) == kept
    assert job.events[-1].number == 3000


def test_states() -> None:
    store = JobStore(JobSettings())
    for outcome, state in [
        (result(), JobState.SUCCEEDED),
        (Problem("inference_failed", "x"), JobState.FAILED),
        (Problem("job_cancelled", "x"), JobState.CANCELLED),
    ]:
        job = add(store)
        assert job.state is JobState.QUEUED and job.order is not None
        store.end(job, outcome)
        assert job.state is state and job.order is None and job.ended
