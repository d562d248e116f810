"""A model hub on loopback: the three answers that a download needs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HUB_ID = "someone/some-model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What a hub on loopback serves, and what it was asked for."""

    folder: Path
    status: int = 200
    error_code: str = ""
    files_status: int = 200
    asked: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)


@contextmanager
def serve_hub(hub: FakeHub) -> Iterator[str]:
    """Serves `hub` and gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(hub))
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler_for(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    """Answers for the revision, the list of files, and one file."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if HUB_ID not in path:
                return self.answer(404, b"")
            hub.tokens.add(self.headers.get("authorization"))
            if path.startswith(f"/api/models/{HUB_ID}/revision/"):
                self.answer(hub.status, json.dumps({"id": HUB_ID, "sha": COMMIT}).encode())
            elif path.startswith(f"/api/models/{HUB_ID}/tree/"):
                files = [p for p in hub.folder.rglob("*") if p.is_file()]
                entries = [
                    {
                        "type": "file",
                        "path": str(p.relative_to(hub.folder)),
                        "size": p.stat().st_size,
                        "oid": str(p.relative_to(hub.folder)).replace("/", "-"),
                    }
                    for p in files
                ]
                self.answer(200, json.dumps(entries).encode())
            else:
                name = path.removeprefix(f"/{HUB_ID}/resolve/{COMMIT}/")
                hub.asked.append(name)
                self.answer(hub.files_status, (hub.folder / name).read_bytes(), name)

        do_HEAD = do_GET

        def answer(self, status: int, body: bytes, name: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", '"' + name.replace("/", "-") + '"')
            if status != 200 and hub.error_code:
                self.send_header("X-Error-Code", hub.error_code)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

    return Handler
