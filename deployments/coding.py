"""Image coding beside the event loop, on threads of its own.

The loop's own pool has more threads than there are CPUs, and resolves names and reads files as
well: pictures there would slow each other down, and whatever else waits.
"""

import asyncio
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


async def coded(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function on a coding thread; given up, it does not start if it has not yet."""
    call = partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_pool(), call)


def threads() -> int:
    """As many as this process may use CPUs, of which Ray tells an actor its share so."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and len(told) < 5 and int(told) > 0:
        return min(int(told), _cpus())
    return _cpus()


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    # Torch's threads are the process's: with a picture on each of these there are none to spare.
    return ThreadPoolExecutor(threads(), "coding", initializer=torch.set_num_threads, initargs=(1,))
