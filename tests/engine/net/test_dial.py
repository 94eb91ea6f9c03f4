import base64
import errno
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.ports import free_port
from tport.engine.config.address import Address
from tport.engine.errors import ConfigError, ConnectionProblem
from tport.engine.net.dial import (
    dial_tcp,
    dial_through_proxy,
    is_this_machine,
    open_listener,
)


class Resolver(trio.abc.HostnameResolver):
    """Names as a test wants them; every question is remembered."""

    def __init__(self, answers: dict[str, str | OSError]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        answer = self.answers.get(name, socket.gaierror(socket.EAI_NONAME, "unknown"))
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))]

    async def getnameinfo(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nobody asks for this")


@pytest.fixture
async def listener() -> AsyncIterator[trio.SocketListener]:
    async with await open_listener(Address("127.0.0.1", 0)) as listener:
        yield listener


def port_of(listener: trio.SocketListener) -> int:
    port: int = listener.socket.getsockname()[1]
    return port


async def test_a_peer_that_vanishes_is_noticed_within_two_minutes() -> None:
    """DOS-01: by the kernel, where nothing is sent and nothing is due; on connections of both kinds."""
    async with await open_listener(Address("127.0.0.1", 0)) as listener:
        ours = await dial_tcp("127.0.0.1", port_of(listener))
        theirs = await listener.accept()
        for sock in (ours.socket, theirs.socket):
            asked = [
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert asked[0] + asked[1] * asked[2] == 120
        await ours.aclose()
        await theirs.aclose()


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("grafana.tport.localhost", True),
        ("notlocalhost", False),
        ("localhost.evil.test", False),
        ("127.0.0.1", False),
    ],
)
def test_localhost_and_all_below_it_are_this_machine(host: str, here: bool) -> None:
    assert is_this_machine(host) is here


@pytest.mark.parametrize("host", ["localhost", "grafana.tport.localhost"])
async def test_this_machine_is_dialled_without_asking_anybody(
    host: str, listener: trio.SocketListener
) -> None:
    resolver = Resolver({})
    trio.socket.set_custom_hostname_resolver(resolver)

    stream = await dial_tcp(host, port_of(listener))

    assert resolver.asked in ([], ["127.0.0.1"])
    assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    accepted = await listener.accept()
    assert accepted.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await accepted.aclose()
    await stream.aclose()


async def test_this_machine_is_found_on_ipv6_alone_too() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    try:
        listener = await open_listener(Address("::1", 0))
    except ConfigError:
        pytest.skip("no IPv6 loopback on this machine")
    async with listener:
        stream = await dial_tcp("tport.localhost", port_of(listener))
        assert stream.socket.family == socket.AF_INET6
        await stream.aclose()


async def test_a_port_where_nothing_listens_is_refused_in_words() -> None:
    port = free_port()

    with pytest.raises(ConnectionProblem, match=f"localhost:{port}: connection refused") as problem:
        await dial_tcp("localhost", port)
    with pytest.raises(ConnectionProblem, match="connection refused"):
        await dial_tcp("127.0.0.1", port)

    assert "nothing listens" in problem.value.hint


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), "no such host"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "can't be looked up now"),
        (OSError(errno.ENETUNREACH, "x"), "no way to that network"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    ],
)
async def test_why_a_host_could_not_be_reached_is_said_plainly(answer: OSError, words: str) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver({"app.test": answer}))

    with pytest.raises(ConnectionProblem, match=f"app.test:80: .*{words}"):
        await dial_tcp("app.test", 80)


async def test_a_name_that_can_be_none_is_no_such_host() -> None:
    with pytest.raises(ConnectionProblem):
        await dial_tcp("a..b", 80)


async def test_a_host_that_swallows_packets_is_given_up(autojump_clock: MockClock) -> None:
    class Silent(Resolver):
        async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
            await trio.sleep_forever()

    trio.socket.set_custom_hostname_resolver(Silent({}))

    with pytest.raises(ConnectionProblem, match="does not answer"):
        await dial_tcp("app.test", 80)

    assert trio.current_time() == pytest.approx(10)


@pytest.mark.parametrize(
    ("holder", "said", "advice"),
    [
        ("nginx, process 8", "port {} is in use by nginx, process 8", "stop that"),
        ("", "port {} is in use", "see by whom: sudo ss -ltnp 'sport = :{}'"),
    ],
)
async def test_a_port_in_use_is_named_with_what_to_do(
    listener: trio.SocketListener,
    monkeypatch: pytest.MonkeyPatch,
    holder: str,
    said: str,
    advice: str,
) -> None:
    monkeypatch.setattr("tport.engine.net.dial.port_holder", lambda _: holder)
    port = port_of(listener)

    with pytest.raises(ConfigError) as problem:
        await open_listener(Address("127.0.0.1", port))

    assert str(problem.value) == said.format(port)
    assert advice.format(port) in problem.value.hint


async def test_a_port_that_needs_a_right_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)

    with pytest.raises(ConfigError, match="port 443 may not be opened") as problem:
        await open_listener(Address("", 443))

    assert "tport install systemd" in problem.value.hint


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
async def test_an_address_of_another_machine_is_not_listened_on(host: str) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver({"192.0.2.1": "192.0.2.1"}))

    with pytest.raises(ConfigError, match="no address of this machine"):
        await open_listener(Address(host, 0))


async def test_without_a_host_every_interface_is_meant() -> None:
    async with await open_listener(Address("", 0)) as listener:
        stream = await dial_tcp("127.0.0.1", port_of(listener))
        await stream.aclose()


async def answer(listener: trio.SocketListener, head: bytes, heads: list[bytes]) -> None:
    """An HTTP proxy of one connection: what it was asked goes to `heads`."""
    async with await listener.accept() as stream:
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += await stream.receive_some()
        heads.append(asked)
        await stream.send_all(head)


async def test_a_tunnel_goes_through_the_proxy_of_the_environment(
    listener: trio.SocketListener,
) -> None:
    """Bytes that come with the proxy's answer belong to the tunnel."""
    environ = {"HTTPS_PROXY": f"http://me:p%40ss@127.0.0.1:{port_of(listener)}"}
    heads: list[bytes] = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer, listener, b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello", heads)
        stream = await dial_through_proxy("proxy.test", 443, environ=environ)
        assert await stream.receive_some() == b"hello"
        await stream.aclose()

    lines = heads[0].split(b"\r\n")
    assert lines[:2] == [b"CONNECT proxy.test:443 HTTP/1.1", b"Host: proxy.test:443"]
    assert lines[2] == b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p@ss")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
        (b"SSH-2.0-x\r\n\r\n", "no answer that is one"),
        (b"HTTP/1.1 200 OK\r\n", "no answer that is one"),
        (b"x" * 20_000, "no answer that is one"),
    ],
)
async def test_a_proxy_that_refuses_is_named_and_its_password_is_not(
    listener: trio.SocketListener, head: bytes, words: str
) -> None:
    environ = {"https_proxy": f"http://me:secret@127.0.0.1:{port_of(listener)}"}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer, listener, head, [])
        with pytest.raises(ConnectionProblem, match=words) as problem:
            await dial_through_proxy("proxy.test", 443, environ=environ)

    assert "secret" not in f"{problem.value} {problem.value.hint}"


@pytest.mark.parametrize("url", ["socks5://secret@a:1", "http://", "http://secret@a:b"])
async def test_a_proxy_that_is_none_is_an_error_of_configuration(url: str) -> None:
    with pytest.raises(ConfigError) as problem:
        await dial_through_proxy("proxy.test", 443, environ={"HTTPS_PROXY": url})

    assert "secret" not in str(problem.value)


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("tport.localhost", ""),
        ("proxy.test", "*"),
        ("proxy.test", "other.test, proxy.test"),
        ("a.proxy.test", ".proxy.test"),
        ("a.proxy.test", "*.proxy.test"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
async def test_what_no_proxy_names_is_dialled_directly(
    listener: trio.SocketListener, host: str, no_proxy: str
) -> None:
    trio.socket.set_custom_hostname_resolver(
        Resolver(dict.fromkeys(("proxy.test", "a.proxy.test", "127.0.0.1"), "127.0.0.1"))
    )
    environ = {"HTTPS_PROXY": "http://192.0.2.1:1", "NO_PROXY": no_proxy}

    stream = await dial_through_proxy(host, port_of(listener), environ=environ)

    assert stream.socket.getpeername()[1] == port_of(listener)  # type: ignore[attr-defined]
    await stream.aclose()
