"""Who may come, and how often: decided before a body is read."""

import logging
import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import Request

from deployments.keys import ANONYMOUS, holder, read_keys
from deployments.problems import Problem
from deployments.schemas import Access

logger = logging.getLogger(__name__)


class Gate:
    """Knows the keys, and counts their requests at this ingress replica."""

    def __init__(self, access: Access) -> None:
        self._keys = None if access.keys_file is None else read_keys(access.keys_file)
        if self._keys is None:
            logger.warning("no keys_file is configured: anyone who reaches the service may use it")
        self._rate = None
        if access.requests_per_minute is not None:
            self._rate = RateLimitItemPerMinute(access.requests_per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def identify(self, request: Request) -> str:
        """Return the name of the key that a request bears, `ANONYMOUS` where none is needed.

        Raises:
            Problem: it bears none of ours.
        """
        if self._keys is None:
            return ANONYMOUS
        name = holder(request.headers.get("authorization", ""), self._keys)
        if name is None:
            raise Problem("unauthorized", "send a key as `Authorization: Bearer …`", close=True)
        return name

    def admit(self, request: Request) -> str:
        """Identify who asks for work, and count it.

        Raises:
            Problem: no key, or too many requests in the last minute.
        """
        name = self.identify(request)
        if self._rate is not None and not self._limiter.hit(self._rate, name):
            wait_s = self._limiter.get_window_stats(self._rate, name).reset_time - time.time()
            raise Problem(
                "too_many_requests",
                f"{self._rate.amount} requests a minute are taken",
                retry_after_s=max(1, math.ceil(wait_s)),
                close=True,
            )
        return name
