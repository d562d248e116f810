"""A page of static files, and the headers that keep it to itself."""

from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.staticfiles import StaticFiles

# A page loads nothing from elsewhere and talks to nobody else; pictures are blobs of its own.
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class StaticPage:
    """Answers for a page and what it loads, without a key.

    Args:
        path: of the page; its links are relative to it.
        folder: beside this file; has an index.html.
        policy: what is allowed beyond `POLICY`.
    """

    def __init__(self, path: str, folder: str, policy: str = "") -> None:
        self._path = path
        self._files = StaticFiles(directory=Path(__file__).with_name(folder))
        self._headers = {
            # The ETag decides, at every load: an upgrade shows at once.
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY + policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def install(self, app: FastAPI) -> None:
        """Add the routes to ``app``."""
        for path, endpoint in (("", self.page), ("/{name:path}", self.asset)):
            app.add_api_route(
                self._path + path, endpoint, methods=["GET", "HEAD"], include_in_schema=False
            )

    async def page(self, request: Request) -> Response:
        """The page itself."""
        return await self.asset("index.html", request)

    async def asset(self, name: str, request: Request) -> Response:
        """A file that the page loads; 304 where the client has it already."""
        response = await self._files.get_response(name, request.scope)
        response.headers.update(self._headers)
        return response
