"""Who a client is, behind load balancers and without any: HTTP-14, TLS-12, through a whole proxy.

The balancer is 127.0.0.2, everybody else comes from 127.0.0.1 as usual.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio

from tests.stack import Person, Stack, open_stack, read_answer
from tport.engine.net.tls_stream import TlsStream

BALANCER = "127.0.0.2"
LINE = b"PROXY TCP4 203.0.113.9 127.0.0.1 51413 443\r\n"
STRANGERS_WORD = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Real-Ip": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
}


async def seen_from(
    stack: Stack, alice: Person, peer: str, first: bytes = b"", headers: Mapping[str, str] = {}
) -> str:
    """Ask for a page by a connection from `peer` that begins with `first`; return what the app is told.

    Raises:
        EOFError: the proxy hung up.
    """
    with trio.fail_after(10):
        stream = await trio.open_tcp_stream("127.0.0.1", stack.port, local_address=peer)
        tls = TlsStream(
            stream,
            stack.context(),
            server_side=False,
            server_name=stack.host("echo"),
            ragged_end=True,
        )
        try:
            if first:
                await stream.send_all(first)
            await tls.do_handshake()
            lines = ["GET / HTTP/1.1", f"Host: {stack.host('echo')}:{stack.port}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            lines.append(f"Cookie: {alice.cookie('echo')}")
            await tls.send_all("\r\n".join([*lines, "", ""]).encode())
            answer = await read_answer(tls)
        except trio.BrokenResourceError as broken:
            raise EOFError(str(broken)) from None
        finally:
            await trio.aclose_forcefully(tls)  # noqa: ASYNC102 - closes at once
    assert answer.status == 200
    seen = stack.echo.seen[-1]
    [address] = seen.values(b"x-forwarded-for")
    assert seen.values(b"x-real-ip") == [address]
    assert seen.values(b"forwarded") == []
    return address.decode()


async def signed_in(stack: Stack) -> Person:
    alice = await stack.user("alice")
    await alice.open("echo")
    return alice


async def test_http_14_unless_it_is_configured_nobody_is_believed() -> None:
    async with open_stack(drain=False) as stack:
        alice = await signed_in(stack)

        assert await seen_from(stack, alice, "127.0.0.1", headers=STRANGERS_WORD) == "127.0.0.1"
        assert await seen_from(stack, alice, BALANCER, headers=STRANGERS_WORD) == BALANCER
        with pytest.raises(EOFError):
            await seen_from(stack, alice, BALANCER, LINE)


async def test_http_14_the_balancers_word_counts_and_nobody_elses() -> None:
    async with open_stack(drain=False, trusted_proxies=[BALANCER]) as stack:
        alice = await signed_in(stack)

        assert await seen_from(stack, alice, BALANCER, headers=STRANGERS_WORD) == "203.0.113.9"
        assert await seen_from(stack, alice, BALANCER) == BALANCER
        assert await seen_from(stack, alice, "127.0.0.1", headers=STRANGERS_WORD) == "127.0.0.1"
        invented = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 127.0.0.2"}
        assert await seen_from(stack, alice, BALANCER, headers=invented) == "203.0.113.9"
        with pytest.raises(EOFError):
            await seen_from(stack, alice, BALANCER, LINE)  # not configured


async def test_tls_12_a_balancer_must_say_whom_it_connects_for_and_others_may_not() -> None:
    async with open_stack(drain=False, trusted_proxies=[BALANCER], proxy_protocol=True) as stack:
        alice = await signed_in(stack)

        assert await seen_from(stack, alice, BALANCER, LINE) == "203.0.113.9"
        assert await seen_from(stack, alice, BALANCER, b"PROXY UNKNOWN\r\n") == BALANCER
        assert await seen_from(stack, alice, "127.0.0.1") == "127.0.0.1"
        for peer, first in (
            (BALANCER, b""),  # required
            (BALANCER, LINE + LINE),  # once
            (BALANCER, b"PROXY TCP4 203.0.113.9\r\n"),
            ("127.0.0.1", LINE),  # forbidden
        ):
            with pytest.raises(EOFError):
                await seen_from(stack, alice, peer, first)


async def test_tls_12_a_clients_header_is_no_second_word_behind_the_balancers() -> None:
    """The connection is from 203.0.113.9, who is nobody's balancer."""
    async with open_stack(drain=False, trusted_proxies=[BALANCER], proxy_protocol=True) as stack:
        alice = await signed_in(stack)
        lie = {"X-Forwarded-For": "6.6.6.6"}

        assert await seen_from(stack, alice, BALANCER, LINE, headers=lie) == "203.0.113.9"
