"""An application behind a real socket, in this process."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

KEEP_ALIVE_S = 75
"""As in `serve_config.yaml`. Uvicorn's own five seconds are what a refusal asks to wait for: who
comes again then would find the connection closed under the request."""


class Server(uvicorn.Server):
    """A server on a thread of its own, whose event loop the application is made in."""

    def __init__(self, make: Callable[[], FastAPI]) -> None:
        super().__init__(
            uvicorn.Config(
                app="none", port=0, log_level="critical", timeout_keep_alive=KEEP_ALIVE_S
            )
        )
        self._make = make

    async def serve(self, sockets: object = None) -> None:
        self.config.app = self._make()
        await super().serve()


@contextmanager
def serving(make: Callable[[], FastAPI]) -> Iterator[str]:
    """The address of a server of what ``make`` returns, on a port of its own."""
    server = Server(make)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    (listening,) = server.servers
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
