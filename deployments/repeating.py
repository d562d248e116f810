"""Something done again and again on a thread of its own, whatever else its process is at."""

import threading
from collections.abc import Callable
from weakref import WeakMethod

REPEAT_S = 2.0
"""Ray drops a gauge that has not been set for twice its report interval, of 10 s by default."""


def repeat(method: Callable[[], None], every_s: float = REPEAT_S) -> None:
    """Call a method every so many seconds from now on, for as long as its object is in use."""
    reference = WeakMethod(method)

    def run() -> None:
        pause = threading.Event()
        while _called(reference):
            pause.wait(every_s)

    threading.Thread(target=run, name="repeating", daemon=True).start()


def _called(reference: WeakMethod[Callable[[], None]]) -> bool:
    # Its own scope: a thread that waits must not keep the object alive.
    method = reference()
    if method is not None:
        method()
    return method is not None
