"""What a proxy in the enemy's hands may make of an agent's requests, with a live session in hand: requests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import trio

from tests.rogue import open_rogue_proxy, request_head
from tests.stack import Stack, open_stack
from tport.engine.proto.tunnel import ResponseHead
from tport.engine.types.app import App
from tport.engine.types.session import session_id

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        yield opened


def _block(*fields: tuple[bytes, bytes]) -> bytes:
    return b"".join(b"%b: %b\r\n" % field for field in fields)


ODD: dict[str, dict[str, object]] = {
    "a method that is more": {"method": b"GET / HTTP/1.1\r\n\r\n" + SMUGGLED},
    "a target that is more": {"target": b"/ HTTP/1.1\r\n\r\n" + SMUGGLED},
    "a target elsewhere": {"target": b"http://evil.test/"},
    "a target with a blank": {"target": b"/ x"},
    "no target": {"target": b""},
    "a value that is more": {
        "headers": _block(
            (b"x-a", b"b\r\n\r\n" + SMUGGLED),
        )
    },
    "a value with NUL": {
        "headers": _block(
            (b"x-a", b"b\0c"),
        )
    },
    "a name that is more": {
        "headers": _block(
            (b"x-a: b\r\n\r\n" + SMUGGLED, b""),
        )
    },
    "a name with a blank": {
        "headers": _block(
            (b"x a", b"b"),
        )
    },
    "no end": {"headers": b"x-a: b"},
    "an end in the middle": {"headers": b"x-a: b\r\n\r\n" + SMUGGLED},
    "a line that goes on": {"headers": b"x-a: b\r\n c: d\r\n"},
    "another end of lines": {"headers": b"x-a: b\nx-c: d\r\n"},
    "too many lines": {"headers": b"x-a: b\r\n" * 1000},
    "no name": {
        "headers": _block(
            (b"", b"b"),
        )
    },
    "a length of its own": {
        "headers": _block(
            (b"Content-Length", b"40"),
        )
    },
    "chunks of its own": {
        "headers": _block(
            (b"Transfer-Encoding", b"chunked"),
        )
    },
    "a length below nothing": {"length": -1},
    "a length beyond all": {"length": 2**63},
    "an upgrade to h2c": {"upgrade": b"h2c"},
    "an upgrade that is more": {"upgrade": b"x\r\n\r\n" + SMUGGLED},
    "a WebSocket without a key": {"upgrade": b"websocket"},
    "two keys": {"upgrade": b"websocket", "headers": _block((b"sec-websocket-key", b"x")) * 2},
    "a client that is more": {"remote": "127.0.0.1\r\n\r\n"},
    "an address that is more": {"public": "x\r\nX-Forwarded-User: root"},
    "an assertion of its own": {
        "headers": _block(
            (b"Teleport-Jwt-Assertion", b"forged"),
        )
    },
    "an alias of one": {
        "headers": _block(
            (b"TELEPORT_JWT_ASSERTION", b"forged"),
        )
    },
}


@pytest.mark.parametrize("name", ODD)
async def test_az_03_a_proxy_makes_an_agent_send_no_more_than_a_request(
    stack: Stack, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """AZ-03, HTTP-13: well formed, with the agent's own framing and its own word of who calls."""
    seen = bytearray()

    async def listen(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some():
            seen.extend(data)
            await stream.send_all(FINE)

    stack.raw_app.script = listen
    alice = await stack.user("alice")
    await alice.open("raw")
    sid = session_id(alice.apps[stack.host("raw")])
    signed = await stack.api.sign_session(id=sid)
    raw = App(name="raw", uri=f"http://127.0.0.1:{stack.raw_app.port}")

    async with open_rogue_proxy(stack) as proxy, proxy.victim([raw]) as ask:
        assert isinstance(await ask(request_head("raw", sid, signed.credential)), ResponseHead)
        seen.clear()
        try:
            await ask(request_head("raw", sid, signed.credential, **ODD[name]))
        except (trio.BrokenResourceError, AssertionError):
            pass  # refused without a word: as good
        after = bytes(seen)
        assert isinstance(await ask(request_head("raw", sid, signed.credential)), ResponseHead)

    lines = after.split(b"\r\n")
    assert len(re.findall(rb"(?m)^[A-Z]+ \S+ HTTP/1\.1\r$", after)) == (1 if after else 0)
    assert b"smuggled" not in after
    assert b"forged" not in after
    assert b"root" not in after
    assert not [line for line in lines if line.lower().startswith((b"transfer-", b"upgrade: h2c"))]
    assert b"content-length: -" not in after
    assert "Traceback" not in caplog.text
