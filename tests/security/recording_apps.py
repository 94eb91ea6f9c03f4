"""An application that writes down what it was asked, for Python's web servers: WSGI and ASGI.

Each request becomes a line of JSON in the file that RECORDS names: method, raw target, and the
body in hex.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]


def note(method: str, target: str, body: bytes) -> None:
    line = json.dumps([method, target, body.hex()]) + "\n"
    with open(os.environ["RECORDS"], "ab", buffering=0) as records:
        records.write(line.encode())


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    target = environ["REQUEST_URI"]
    note(environ["REQUEST_METHOD"], target, environ["wsgi.input"].read())
    start_response("200 OK", [("X-Seen", target), ("Content-Length", "0")])
    return []


async def asgi(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return  # half a request is none
        body += event["body"]
        more = event["more_body"]
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    note(scope["method"], target.decode("latin-1"), body)
    headers = [(b"x-seen", target), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
