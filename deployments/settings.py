"""What may change while replicas run: the YAML's `user_config` of a deployment."""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=BaseModel)


class Settings(Generic[T]):
    """The `user_config` of one replica, checked as ``kind`` says."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._begun = False

    def change(self, user_config: object, apply: Callable[[T], None]) -> None:
        """Check and apply what Serve hands to a replica's `reconfigure`.

        A replica that starts with bad settings must not serve. One that serves keeps its old ones
        and says so in its log: Serve would end it for raising, and start others that raise too.

        Raises:
            ValueError: the first settings are no good.
            OSError: a file that they name cannot be read.
        """
        try:
            settings = self._kind.model_validate(user_config)
            apply(settings)
        except (ValueError, OSError) as err:
            reason = reason_of(err)
            if not self._begun:
                logger.critical("no replica: user_config: %s", reason)
                raise
            logger.error("user_config is refused, the old one stands: %s", reason)
            return
        if self._begun:
            logger.info("user_config has changed: %s", settings)
        self._begun = True


def reason_of(err: Exception) -> str:
    """Say in one line what is wrong, without the values."""
    if not isinstance(err, ValidationError):
        return str(err)
    return "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in err.errors())
