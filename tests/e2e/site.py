"""Small web applications for tests: a function from request to answer, served by threads.

with serve(lambda request: Answer(f"<p>{request.path}</p>")) as site:
    cluster.start_agent("pages", site.url)
    …
    assert [request.path for request in site.seen] == ["/"]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """What was asked. `headers` ignores case, and gives the first of several."""

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    def cookie(self, name: str) -> str:
        """The value; "" if there is none."""
        morsel = SimpleCookie(self.headers.get("Cookie", "")).get(name)
        return morsel.value if morsel else ""


@dataclass(frozen=True)
class Answer:
    body: str | bytes = ""
    status: int = 200
    kind: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def to(location: str, *headers: tuple[str, str]) -> Answer:
    """Return a redirect, as after a form."""
    return Answer(status=303, headers=(("Location", location), *headers))


@dataclass
class Site:
    """One that runs. `seen`: all that reached it, in order."""

    port: int
    seen: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serve(respond: Callable[[Request], Answer], *, port: int = 0) -> Iterator[Site]:
    """Serve on a port of 127.0.0.1, 0: a free one, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            query = dict(parse_qsl(parts.query))
            request = Request(self.command, parts.path, query, self.headers, body)
            site.seen.append(request)
            answer = respond(request)
            data = answer.body if isinstance(answer.body, bytes) else answer.body.encode()
            self.send_response(answer.status)
            for name, value in (
                ("Content-Type", answer.kind),
                ("Content-Length", str(len(data))),
                *answer.headers,
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: `seen` has it."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        site = Site(server.server_port)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
