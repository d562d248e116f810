"""Batches hold like rows, the oldest leads, and nobody is left behind."""

from sr_engine.scheduler import Phase, Scheduler, TileTask

CAPS = {Phase.DENOISE: 4, Phase.DECODE: 1, Phase.ENCODE: 2}


def tasks(request_id: str, count: int, phase: Phase = Phase.DENOISE, side: int = 8) -> list:
    return [TileTask(request_id, phase, (side, side), 0, i) for i in range(count)]


def active(*request_ids: str) -> Scheduler:
    scheduler = Scheduler(max_active=8, caps=CAPS)
    for request_id in request_ids:
        scheduler.add(request_id)
    assert scheduler.admit() == list(request_ids)
    return scheduler


def test_later_requests_fill_up_the_leaders_batch() -> None:
    scheduler = active("a", "b")
    scheduler.submit("a", tasks("a", 3))
    scheduler.submit("b", tasks("b", 3))
    assert [t.request_id for t in scheduler.next_batch()] == ["a", "a", "a", "b"]
    assert [t.request_id for t in scheduler.next_batch()] == ["b", "b"]
    assert scheduler.next_batch() == []


def test_a_batch_never_mixes_phases_or_shapes() -> None:
    scheduler = active("a", "b", "c")
    scheduler.submit("a", tasks("a", 1))
    scheduler.submit("b", tasks("b", 1, side=4))
    scheduler.submit("c", tasks("c", 1, Phase.DECODE))
    batches = [scheduler.next_batch() for _ in range(3)]
    assert [[t.request_id for t in batch] for batch in batches] == [["a"], ["b"], ["c"]]


def test_caps_bound_each_phase() -> None:
    scheduler = active("a")
    scheduler.submit("a", tasks("a", 3, Phase.ENCODE))
    assert [len(scheduler.next_batch()) for _ in range(3)] == [2, 1, 0]


def test_the_queue_waits_until_there_is_room() -> None:
    scheduler = Scheduler(max_active=1, caps=CAPS)
    scheduler.add("a")
    scheduler.add("b")
    assert scheduler.admit() == ["a"]
    assert scheduler.admit() == []
    assert scheduler.remove("a")
    assert scheduler.admit() == ["b"]


def test_remove_takes_out_waiting_and_active_alike() -> None:
    scheduler = active("a")
    scheduler.add("b")
    scheduler.submit("a", tasks("a", 2))
    assert scheduler.remove("a") and scheduler.remove("b")
    assert not scheduler.remove("a")
    assert scheduler.next_batch() == []
    assert not scheduler.has_work()
