"""Who may come, and how often: decided before a body is read."""

import logging
import math
import time
from collections.abc import Sequence

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import Request

from deployments.keys import ANONYMOUS, KeyFile, holder
from deployments.limits import Access
from deployments.problems import Problem

logger = logging.getLogger(__name__)


class Gate:
    """Knows the keys, and counts their requests at this ingress replica; shut until `change`.

    Attributes:
        cors_origins: whose pages may use the service from a browser.
    """

    def __init__(self) -> None:
        self.cors_origins: Sequence[str] = ()
        self._open = False
        self._key_file: KeyFile | None = None
        self._rate: RateLimitItemPerMinute | None = None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def change(self, access: Access) -> None:
        """Admit by other rules from now on; under another rate, keys begin to be counted anew.

        Raises:
            ValueError: the file of keys is no good; the old rules stand.
            OSError: it cannot be read; the old rules stand.
        """
        key_file = None if access.keys_file is None else KeyFile(access.keys_file)
        if key_file is None:
            logger.warning("no keys_file is configured: anyone who reaches the service may use it")
        self._key_file, self._open = key_file, key_file is None
        self._rate = None
        if access.requests_per_minute is not None:
            self._rate = RateLimitItemPerMinute(access.requests_per_minute)
        self.cors_origins = tuple(access.cors_origins)

    def identify(self, request: Request) -> str:
        """Return the name of the key that a request bears, `ANONYMOUS` where none is needed.

        Raises:
            Problem: it bears none of ours.
        """
        if self._open:
            return ANONYMOUS
        keys = self._key_file.keys() if self._key_file else {}
        name = holder(request.headers.get("authorization", ""), keys)
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
