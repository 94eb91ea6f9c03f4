"""What an application may say back to a browser, through a whole proxy and agent: AG-08, WEB-03."""

from __future__ import annotations

import ssl
from ipaddress import ip_network

import pytest
import trio
import trustme

from tests.stack import RawApp, open_stack
from tport.engine.errors import ConnectionProblem, RemoteProtocolError
from tport.engine.net.tls import accept_tls
from tport.engine.types.app import App, Timeouts

ANSWER = b"HTTP/1.1 %b\r\n%b\r\nContent-Length: 0\r\n\r\n"


async def test_web_03_no_application_sets_a_cookie_for_more_than_its_own_host() -> None:
    """60 cookies for the whole domain would push everybody's sessions out of the jar."""
    async with open_stack(drain=False) as stack:
        alice = await stack.user("alice")
        lines = [
            b"Set-Cookie: c%d=%s; Domain=tport.localhost; Path=/" % (i, b"x" * 700)
            for i in range(60)
        ]
        stack.raw_app.answers(ANSWER % (b"200 OK", b"\r\n".join(lines)))

        answer = await alice.get("raw")

    assert answer.all("set-cookie") == [f"c{i}={'x' * 700}; Path=/" for i in range(60)]


async def test_ag_08_a_redirect_elsewhere_is_passed_on_and_not_followed() -> None:
    async with open_stack(drain=False) as stack:
        alice = await stack.user("alice")
        metadata = "http://169.254.169.254/latest"
        own = f"http://127.0.0.1:{stack.raw_app.port}"
        for location, expected in (
            (metadata, metadata),
            (f"{own}/a?b", stack.url("raw", "/a?b")),
            ("/relative", "/relative"),
        ):
            stack.raw_app.answers(ANSWER % (b"302 Found", b"Location: " + location.encode()))

            answer = await alice.get("raw")

            assert (answer.status, answer.header("location")) == (302, expected)

        stack.raw_app.answers(
            ANSWER
            % (
                b"200 OK",
                b"Content-Location: %b/c\r\nRefresh: 5; url=%b/r" % (own.encode(), own.encode()),
            )
        )
        answer = await alice.get("raw")

        assert answer.header("content-location") == stack.url("raw", "/c")
        assert answer.header("refresh") == f"5; url={stack.url('raw', '/r')}"
        assert stack.raw_app.connections == 4


async def test_ag_09_an_application_that_nobody_vouches_for_is_a_502_that_says_so(
    nursery: trio.Nursery,
) -> None:
    """And http spoken to an https port is told apart from everything else that looks like it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    heard: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        try:
            async with await accept_tls(stream, context) as tls:
                heard.append(bytes(await tls.receive_some()))
        except (RemoteProtocolError, ConnectionProblem, trio.BrokenResourceError):
            pass  # what the agent wouldn't trust, or isn't TLS

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    port = listener.socket.getsockname()[1]
    apps = [App(name=scheme, uri=f"{scheme}://localhost:{port}") for scheme in ("http", "https")]
    async with open_stack(apps=apps, drain=False) as stack:
        alice = await stack.user("alice")
        untrusted, wrong = await alice.get("https"), await alice.get("http")

    assert (untrusted.status, wrong.status) == (502, 502)
    assert b"Name its authority in tls.ca_file" in untrusted.body
    assert b"it speaks TLS; its uri must begin with https://" in wrong.body
    assert heard in ([], [b""])


async def test_an_application_that_takes_too_long_is_a_504_that_says_so(
    nursery: trio.Nursery,
) -> None:
    app = RawApp()

    async def silent(stream: trio.SocketStream) -> None:
        await app.take_head(stream)
        await trio.sleep_forever()

    app.script = silent
    uri = f"http://127.0.0.1:{await nursery.start(app.run)}"
    slow = App(name="slow", uri=uri, timeouts=Timeouts(response_head=0.2))
    async with open_stack(apps=[slow], drain=False) as stack:
        alice = await stack.user("alice")
        answer = await alice.get("slow")

    assert answer.status == 504
    assert b"did not answer within 0.2 s" in answer.body


async def test_ag_07_a_target_that_may_not_be_is_a_502_and_an_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_stack(drain=False) as stack:
        alice = await stack.user("alice")
        monkeypatch.setattr("tport.engine.access.targets._METADATA", (ip_network("127.0.0.0/8"),))
        answer = await alice.get("echo")

        assert answer.status == 502
        assert b"where clouds keep their machines' credentials" in answer.body
        assert stack.echo.seen == []
        await stack.event("app.dial.denied", app_name="echo", user="alice")
