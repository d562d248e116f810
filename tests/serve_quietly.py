"""Ray Serve warns while it is imported; here it does so once, unheard.

For every folder of tests that need it; the fixture is for their `conftest.py`.
"""

import logging
import warnings
from collections.abc import Iterator

import pytest

from deployments import logs

with warnings.catch_warnings():
    # pydantic's deprecations in Serve's own schema.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ray.serve

__all__ = ["parents", "ray"]


@pytest.fixture(autouse=True)
def parents() -> Iterator[None]:
    """Our loggers may join Serve's in a test; afterwards they are pytest's again."""
    ours = [logging.getLogger(name) for name in logs.OURS]
    before = [logger.parent for logger in ours]
    yield
    for logger, parent in zip(ours, before, strict=True):
        logger.parent = parent
