"""A proxy of several processes under attack: what a stranger sends ends none of them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest
import trio

from tests.stack import DOMAIN, Stack, open_stack
from tport.engine.defaults import ALPN_AUTH, ALPN_FOR, ALPN_TUNNEL

MUCH = bytes(200_000)  # more than one message between our processes may have


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(workers=2, drain=False) as opened:
        yield opened


def _hello(*protocols: str) -> bytes:
    """Return the first bytes of a client that offers these."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=DOMAIN)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    "protocols",
    [(ALPN_AUTH,), (ALPN_TUNNEL, f"{ALPN_FOR}another")],
    ids=["for auth", "a tunnel for another process"],
)
async def test_tls_04_what_comes_behind_a_hello_ends_no_process(
    stack: Stack, caplog: pytest.LogCaptureFixture, protocols: tuple[str, ...]
) -> None:
    """TLS-04: the connection is another process's: what came of it already goes there as a message."""
    for _ in range(6):
        with trio.move_on_after(1):
            async with await trio.open_tcp_stream("127.0.0.1", stack.port) as stranger:
                try:
                    await stranger.send_all(_hello(*protocols) + MUCH)
                    while await stranger.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass  # refused: as it should be

    assert (await stack.request(DOMAIN, "/webapi/ping")).status == 200
    assert "another starts" not in caplog.text
