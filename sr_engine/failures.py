"""What one request's failure may be, and how much of it is told."""

import logging

import torch

from nullscale.errors import EngineError, NullscaleError, OutOfMemory
from sr_engine.events import RequestFailure

logger = logging.getLogger(__name__)

REQUEST_ERRORS = (
    NullscaleError,
    RuntimeError,
    MemoryError,
    ValueError,
    TypeError,
    LookupError,
    OSError,
    ImportError,
)
"""What networks, tokenizers and the maths raise on one request's numbers or for want of memory."""


def failure_of(request_id: str, err: Exception) -> RequestFailure:
    """Return the end of a request; what was not raised on purpose is logged, not told.

    Without tracebacks, which would keep the failed picture's tensors alive.
    """
    if isinstance(err, NullscaleError):
        return RequestFailure(request_id, err.with_traceback(None))
    extra = {"request_id": request_id}
    if isinstance(err, torch.OutOfMemoryError | MemoryError):
        logger.error("request %s does not fit in memory: %s", request_id, err, extra=extra)
        error: EngineError = OutOfMemory("the device has no room for this request")
    else:
        text = "request %s failed in the model"
        logger.error(text, request_id, exc_info=err, extra=extra)
        error = EngineError("the model failed on this request")
    error.__cause__ = err.with_traceback(None)
    return RequestFailure(request_id, error)
