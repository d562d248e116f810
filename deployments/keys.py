"""API keys: who a request comes from. `python -m deployments.keys NAME` makes one."""

import hashlib
import hmac
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

ANONYMOUS = "anonymous"
LINE = re.compile(r"([A-Za-z0-9_.@-]{1,64})\s+([0-9a-f]{64})")


def read_keys(path: str) -> dict[str, str]:
    """Read a file of keys: a name and a SHA-256 a line; empty lines and ``#`` comments count not.

    Returns:
        The digest of each name.

    Raises:
        ValueError: a line is no such pair, or a name stands twice.
        OSError: the file cannot be read.
    """
    keys: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = LINE.fullmatch(text)
        if found is None or found[1] in keys:
            raise ValueError(f"{path}, line {number}: expected a new name and a SHA-256")
        keys[found[1]] = found[2]
    return keys


class KeyFile:
    """The keys of a file, read again when it has changed; one that turns bad changes nothing.

    Args:
        look_every_s: seconds between two looks at the file's time.

    Raises:
        ValueError: as `read_keys`.
        OSError: as `read_keys`.
    """

    def __init__(self, path: str, look_every_s: float = 1.0) -> None:
        self._path = path
        self._look_every_s = look_every_s
        self._looked_s = time.monotonic()
        self._unreadable = False
        self._stamp = _stamp(path)
        self._keys = read_keys(path)

    def keys(self) -> Mapping[str, str]:
        """Return the digest of each name, as of the last look at the latest."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= self._look_every_s:
            self._looked_s = now_s
            self._look()
        return self._keys

    def _look(self) -> None:
        # What is wrong is complained of once, not every second.
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._read()
                # One that could not be read may become readable without having changed.
                self._stamp = stamp
        except OSError as err:
            if not self._unreadable:
                logger.error("the file of keys cannot be read, the old keys stand: %s", err)
            self._unreadable = True
        else:
            self._unreadable = False

    def _read(self) -> None:
        try:
            self._keys = read_keys(self._path)
        except ValueError as err:
            logger.error("the file of keys is refused, the old keys stand: %s", err)
        else:
            logger.info("%d API keys are known from now on", len(self._keys))


def _stamp(path: str) -> tuple[int, int, int]:
    """What differs once a file has been written or, as Kubernetes does, replaced."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ino, found.st_size


def holder(authorization: str, keys: Mapping[str, str]) -> str | None:
    """Return whose key an Authorization header bears, None if nobody's.

    The time it takes depends on the number of keys alone. A token has 256 random bits, so one round
    of SHA-256 hides it.
    """
    scheme, _, token = authorization.partition(" ")
    given = hashlib.sha256(token.strip().encode()).hexdigest()
    found = None
    for name, digest in keys.items():
        if hmac.compare_digest(given, digest):
            found = name
    return found if scheme.lower() == "bearer" else None


def main() -> None:
    """Write a new key's line for the file to stdout, and its token, once, to stderr."""
    if len(sys.argv) != 2 or not LINE.fullmatch(f"{sys.argv[1]} {'0' * 64}"):
        sys.exit("usage: python -m deployments.keys NAME   (letters, digits, _ . @ -)")
    token = secrets.token_urlsafe(32)
    print(f"the token of {sys.argv[1]}, shown once: {token}", file=sys.stderr)
    print(sys.argv[1], hashlib.sha256(token.encode()).hexdigest())


if __name__ == "__main__":
    main()
