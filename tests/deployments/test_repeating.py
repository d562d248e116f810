"""What is said again and again, and for how long."""

import gc
import threading
import time

from deployments.repeating import repeat

NAME = "repeating"
REACHED_S = 30.0


class Speaker:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def speak(self) -> None:
        self.calls += 1


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == NAME}


def test_a_method_is_called_for_as_long_as_its_object_is_in_use() -> None:
    before, speaker = threads(), Speaker()
    repeat(speaker.speak, every_s=0.001)
    (thread,) = threads() - before
    end_s = time.monotonic() + REACHED_S
    while speaker.calls < 5 and time.monotonic() < end_s:
        time.sleep(0.001)
    assert speaker.calls >= 5 and thread.is_alive()
    del speaker
    gc.collect()
    thread.join(REACHED_S)
    assert not thread.is_alive()
    # It keeps no process from ending either.
    assert thread.daemon
