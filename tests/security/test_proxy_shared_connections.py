"""Requests of different people go to an application by the same connections: nothing of one stays for the next."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import trio

from tests.stack import Stack, open_stack

SIGNED_IN = re.compile(rb"(?im)^authorization: *(?:ntlm|negotiate) +(\w+)")


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        opened.raw_app.script = _Windows(opened).serve
        yield opened


class _Windows:
    """An application that signs people in by connection, as NTLM has it: RFC 4559 §6."""

    def __init__(self, stack: Stack) -> None:
        self._app = stack.raw_app

    async def serve(self, stream: trio.SocketStream) -> None:
        who = b"nobody"
        while head := await self._app.take_head(stream):
            if (found := SIGNED_IN.search(head)) is not None:
                who = found[1]
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(who), who)
            )


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate", "ntlm", "NEGOTIATE"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_who_signs_in_by_connection_is_not_who_asks_by_it_next(
    stack: Stack, scheme: str, method: str
) -> None:
    """HTTP-16: else bob would be alice to the application, for as long as that connection is kept."""
    alice, bob = await stack.user("alice"), await stack.user("bob")
    await bob.open("raw")
    assert (await alice.get("raw")).body == b"nobody"  # and a connection is kept from now on

    host = stack.host("raw")
    signed_in = await stack.request(
        host,
        headers={
            "Cookie": alice.cookie("raw"),
            "Authorization": f"{scheme} alice",
            "Origin": f"https://{host}:{stack.port}",
        },
        method=method,
    )
    assert signed_in.body == b"alice"

    assert [(await bob.get("raw")).body for _ in range(3)] == [b"nobody"] * 3
