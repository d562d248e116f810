"""Everything that is raised on purpose.

NullscaleError
├── InvalidParameter        a request's parameter is out of range; ``field`` names it
│   └── PromptUnsupported   a prompt was given and the model has no text encoder
├── InvalidImage            bytes that do not decode to a picture we accept
│   ├── UnsupportedImageType
│   ├── ImageTooLarge
│   └── TransparencyUnsupported  not opaque, and the output format has no alpha
├── ModelLoadError          the checkpoint cannot be found, read or used
└── EngineError
    ├── EngineDead          the engine's thread has ended; nothing more will be done
    ├── EngineDraining      the engine takes no more requests
    ├── EngineOverloaded    the request could not be done in time under the present load
    ├── RequestAborted      the request was taken out of the engine before it ended
    ├── DeadlineExceeded    the request's deadline passed
    ├── OutOfMemory         the device has no room for the request, even in smaller tiles
    └── InvalidResult       the model produced numbers that are no picture
"""


class NullscaleError(Exception):
    """Base of all errors raised on purpose; its text may be shown to a user."""


class InvalidParameter(NullscaleError, ValueError):
    """A request's parameter is out of range."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message

    def __reduce__(self) -> tuple[type["InvalidParameter"], tuple[str, ...]]:
        # Unpickling would call the constructor with the finished text alone.
        return type(self), (self.field, self.message)


class PromptUnsupported(InvalidParameter):
    """A prompt was given and the model has no text encoder."""

    def __init__(self, field: str = "prompt") -> None:
        super().__init__(field, "this model has no text encoder")

    def __reduce__(self) -> tuple[type[InvalidParameter], tuple[str, ...]]:
        return type(self), (self.field,)


class InvalidImage(NullscaleError):
    """Bytes that do not decode to a picture we accept."""


class UnsupportedImageType(InvalidImage):
    """A file that is neither PNG, JPEG nor WebP."""


class ImageTooLarge(InvalidImage):
    """More pixels, in or out, than the limit allows."""


class TransparencyUnsupported(InvalidImage):
    """The picture is not opaque, and the answer's format knows no transparency."""


class ModelLoadError(NullscaleError):
    """The checkpoint cannot be found, read or used; the text says what to do."""


class EngineError(NullscaleError):
    """A request failed inside the engine."""


class EngineDead(EngineError):
    """The engine's thread has ended; nothing more will be done."""


class EngineDraining(EngineError):
    """The engine takes no more requests."""


class EngineOverloaded(EngineError):
    """The request could not be done in time under the present load; later it could."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too much is waiting already: come again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type["EngineOverloaded"], tuple[float]]:
        return type(self), (self.retry_after_s,)


class RequestAborted(EngineError):
    """The request was taken out of the engine before it ended."""


class DeadlineExceeded(EngineError):
    """The request's deadline passed before it ended."""


class OutOfMemory(EngineError):
    """The device has no room for the request, even in smaller tiles; later it may have."""


class InvalidResult(EngineError):
    """The model produced numbers that are no picture."""
