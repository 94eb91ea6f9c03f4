"""Where a connection, and a request, goes: a pure decision, and everything else is refused."""

from __future__ import annotations

import pytest

from tport.engine.proxy.router import Door, Room, door, room, wanted_proxy


@pytest.mark.parametrize(
    ("offer", "expected"),
    [
        ([], Door.BROWSER),
        (["http/1.1"], Door.BROWSER),
        (["h2", "http/1.1"], Door.BROWSER),
        (["h2"], Door.NONE),
        (["tport-tunnel/1"], Door.TUNNEL),
        (["tport-auth/1"], Door.AUTH),
        (["tport-tunnel/1", "http/1.1"], Door.NONE),
        (["http/1.1", "tport-auth/1"], Door.NONE),
        (["tport-tunnel/1", "tport-auth/1"], Door.NONE),
        (["tport-tunnel/1", "tport-for/a1"], Door.TUNNEL),
        (["tport-tunnel/1", "tport-for/a1", "http/1.1"], Door.NONE),
        (["tport-tunnel/1", "tport-for/"], Door.NONE),
        (["tport-auth/1", "tport-for/a1"], Door.NONE),
        (["http/1.1", "tport-for/a1"], Door.BROWSER),
        (["tport-for/a1"], Door.NONE),
        (["acme-tls/1"], Door.CHALLENGE),
        (["acme-tls/1", "http/1.1"], Door.NONE),
        (["tport-app/1"], Door.NONE),
        (["nonsense"], Door.NONE),
    ],
)
def test_the_offer_chooses_the_door(offer: list[str], expected: Door) -> None:
    assert door(offer) is expected


def test_a_tunnel_may_say_which_proxy_it_is_for_and_nothing_else_may() -> None:
    assert wanted_proxy(["tport-tunnel/1", "tport-for/a1"]) == "a1"
    assert wanted_proxy(["tport-tunnel/1"]) == ""
    assert wanted_proxy(["http/1.1", "tport-for/a1"]) == ""
    assert wanted_proxy([]) == ""


@pytest.mark.parametrize(
    ("server_name", "host", "path", "expected"),
    [
        ("proxy.test", "proxy.test", b"/web/login", Room.OWN),
        ("grafana.proxy.test", "grafana.proxy.test", b"/", Room.APP),
        ("nobody.test", "nobody.test", b"/", Room.APP),
        ("grafana.proxy.test", "jupyter.proxy.test", b"/", Room.MISDIRECTED),
        ("grafana.proxy.test", "proxy.test", b"/web/login", Room.MISDIRECTED),
        ("proxy.test", "grafana.proxy.test", b"/healthz", Room.MISDIRECTED),
        (None, "proxy.test", b"/healthz", Room.NAMELESS),
        (None, "grafana.proxy.test", b"/", Room.MISDIRECTED),
        (None, "192.0.2.1", b"/webapi/cas", Room.NAMELESS),
        ("proxy.test", "192.0.2.1", b"/webapi/ping", Room.NAMELESS),
        ("proxy.test", "[2001:db8::1]", b"/", Room.MISDIRECTED),
        (None, "192.0.2.1", b"/webapi/ping/", Room.MISDIRECTED),
        (None, "192.0.2.1", b"/web/login", Room.MISDIRECTED),
    ],
)
def test_the_names_choose_the_room(
    server_name: str | None, host: str, path: bytes, expected: Room
) -> None:
    own = frozenset({"proxy.test"})
    assert room(server_name=server_name, host=host, own_hosts=own, path=path) is expected
