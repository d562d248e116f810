"""API keys: who a request comes from. `python -m deployments.keys NAME` makes one."""

import hashlib
import hmac
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

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
