"""The application with replicas and proxies that say where they are, for tests of several nodes.

Built as `deployments.app:build_app` builds it. `middlewares` stands in the place of
`deployments.proxy.middlewares`, and adds a header to what that does.
"""

import logging
from unittest.mock import patch

import ray
from ray.serve import Application
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import deployments.app
import deployments.proxy
from deployments.app import AppArgs
from deployments.upscaler import Upscaler, UpscalerArgs

# One of those that join Serve's files.
logger = logging.getLogger("deployments.placed")

NODE_HEADER = "x-node"


class PlacedUpscaler(Upscaler):
    """A replica that logs its node's id and its GPUs' numbers there."""

    def __init__(self, args: UpscalerArgs) -> None:
        super().__init__(args)
        context = ray.get_runtime_context()
        gpus = ",".join(context.get_accelerator_ids()["GPU"])
        logger.info("on node %s with GPUs %s", context.get_node_id(), gpus)


class NodeHeader:
    """Says in every answer which node's proxy gave it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._node_id = ray.get_runtime_context().get_node_id()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer back with a header more."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[NODE_HEADER] = self._node_id
            await send(message)

        await self._app(scope, receive, marked)


def middlewares() -> list[Middleware]:
    """The product's middlewares, and the header outside them."""
    return [*deployments.proxy.middlewares(), Middleware(NodeHeader)]


def build_app(args: AppArgs) -> Application:
    """Build the application of the configuration files with such replicas."""
    with patch.object(deployments.app, "Upscaler", PlacedUpscaler):
        return deployments.app.build_app(args)
