"""Something done again and again on a thread of its own, whatever else its process is at."""

import logging
import threading
from collections.abc import Callable
from weakref import WeakMethod

logger = logging.getLogger(__name__)

REPEAT_S = 2.0
"""Ray drops a gauge that has not been set for twice its report interval, of 10 s by default."""


def repeat(method: Callable[[], None], every_s: float = REPEAT_S) -> None:
    """Call a method every so many seconds from now on, for as long as its object is in use.

    What it raises is logged, and it is called again.
    """
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
        attempt(method)
    return method is not None


def attempt(method: Callable[[], None]) -> None:
    """Call a method, and log what it raises: it may be only this once."""
    try:
        method()
    except Exception:
        logger.exception("%s failed, and is called again", method)
