"""What is said again and again, and for how long."""

import gc
import threading
import time

import pytest

from deployments.repeating import repeat

NAME = "repeating"
REACHED_S = 30.0


class Speaker:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def speak(self) -> None:
        self.calls += 1


class Stumbler(Speaker):
    """Raises at its first calls."""

    def speak(self) -> None:
        super().speak()
        if self.calls < 3:
            raise RuntimeError("a stumble")


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == NAME}


def called(speaker: Speaker, times: int) -> bool:
    end_s = time.monotonic() + REACHED_S
    while speaker.calls < times and time.monotonic() < end_s:
        time.sleep(0.001)
    return speaker.calls >= times


def test_a_method_is_called_for_as_long_as_its_object_is_in_use() -> None:
    before, speaker = threads(), Speaker()
    repeat(speaker.speak, every_s=0.001)
    (thread,) = threads() - before
    assert called(speaker, 5) and thread.is_alive()
    del speaker
    gc.collect()
    thread.join(REACHED_S)
    assert not thread.is_alive()
    # It keeps no process from ending either.
    assert thread.daemon


def test_what_it_raises_is_logged_and_it_is_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    speaker = Stumbler()
    repeat(speaker.speak, every_s=0.001)
    assert called(speaker, 5)
    told = [record.exc_text or str(record.exc_info) for record in caplog.records]
    assert len(told) == 2 and all("a stumble" in text for text in told)
