"""A page to try the service with: static files, and the headers that keep it to itself."""

from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).with_name("page")

# The page loads nothing from elsewhere and talks to nobody else; pictures are blobs of its own.
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    # The ETag decides, at every load: an upgrade shows at once.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Playground:
    """Answers for the page and what it loads, without a key: it asks for one where it needs one."""

    def __init__(self) -> None:
        self._files = StaticFiles(directory=FOLDER)

    def install(self, app: FastAPI) -> None:
        """Add the routes to ``app``."""
        for path, endpoint in (("", self.page), ("/{name:path}", self.asset)):
            app.add_api_route(
                "/playground" + path, endpoint, methods=["GET", "HEAD"], include_in_schema=False
            )

    async def page(self, request: Request) -> Response:
        """The page itself; its links are relative to it."""
        return await self.asset("index.html", request)

    async def asset(self, name: str, request: Request) -> Response:
        """A file that the page loads; 304 where the client has it already."""
        response = await self._files.get_response(name, request.scope)
        response.headers.update(HEADERS)
        return response
