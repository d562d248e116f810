"""The API's documentation as a page: Swagger UI from this host, so that no other one is needed."""

from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.staticfiles import StaticFiles

from deployments.playground import HEADERS

FOLDER = Path(__file__).with_name("docs")

# Swagger UI sets styles in its markup, and its icons are data.
POLICY = HEADERS["Content-Security-Policy"] + "; style-src 'self' 'unsafe-inline'"


class DocsPage:
    """Answers for the page and what it loads; FastAPI's own has it from another host."""

    def __init__(self) -> None:
        self._files = StaticFiles(directory=FOLDER)

    def install(self, app: FastAPI) -> None:
        """Add the routes to ``app``."""
        for path, endpoint in (("", self.page), ("/{name:path}", self.asset)):
            app.add_api_route(
                "/docs" + path, endpoint, methods=["GET", "HEAD"], include_in_schema=False
            )

    async def page(self, request: Request) -> Response:
        """The page itself; its links are relative to it."""
        return await self.asset("index.html", request)

    async def asset(self, name: str, request: Request) -> Response:
        """A file that the page loads; 304 where the client has it already."""
        response = await self._files.get_response(name, request.scope)
        response.headers.update(HEADERS | {"Content-Security-Policy": POLICY})
        return response
