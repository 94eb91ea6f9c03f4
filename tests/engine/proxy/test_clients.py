"""Whom a connection or a request is from, where load balancers stand before the proxy."""

from __future__ import annotations

import ipaddress
import logging
from typing import cast

import pytest
import trio
from trio.testing import memory_stream_pair

from tport.engine.errors import RemoteProtocolError
from tport.engine.net.tcp import TcpStream
from tport.engine.proxy.clients import Clients

TRUSTED = (ipaddress.ip_network("192.0.2.0/28"),)
BALANCER, STRANGER = "192.0.2.1", "198.51.100.7"
CLAIM = ((b"x-forwarded-for", b"203.0.113.9"),)


def test_without_balancers_nobody_is_believed_to_speak_for_another() -> None:
    clients = Clients()

    assert clients.of_requests(STRANGER)(CLAIM) == STRANGER
    assert not clients.is_shared(STRANGER)
    assert not clients.begin_with_header(STRANGER)


def test_only_a_balancer_is_believed_whom_a_request_is_from() -> None:
    clients = Clients(TRUSTED)

    assert clients.of_requests(STRANGER)(CLAIM) == STRANGER
    assert clients.of_requests(BALANCER)(CLAIM) == "203.0.113.9"
    assert clients.of_requests(BALANCER)(()) == BALANCER
    assert clients.is_shared(BALANCER)


async def arrived(clients: Clients, peer: str, data: bytes) -> tuple[str, bytes]:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(data)
    await theirs.send_eof()
    with trio.fail_after(5):
        return await clients.arrival(cast("TcpStream", ours), peer)


async def test_a_balancer_says_for_whom_it_speaks_and_nobody_else_can() -> None:
    clients = Clients(TRUSTED, proxy_protocol=True)
    header = b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\nhello"

    assert await arrived(clients, BALANCER, header) == ("203.0.113.9", b"hello")
    assert await arrived(clients, BALANCER, b"PROXY UNKNOWN\r\nhello") == (BALANCER, b"hello")
    assert await arrived(clients, STRANGER, header) == (STRANGER, b"")


async def test_a_balancer_without_a_header_is_refused_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clients = Clients(TRUSTED, proxy_protocol=True)
    for _ in range(3):
        with pytest.raises(RemoteProtocolError):
            await arrived(clients, BALANCER, b"\x16\x03\x01 a ClientHello")

    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
    assert f"{BALANCER} is among trusted_proxies" in caplog.text
