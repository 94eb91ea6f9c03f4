"""Why an application did not answer, through a whole cluster: on which hop, in what words, what to do."""

from __future__ import annotations

import errno
import json
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trustme

from tests.browser import NAVIGATION, Browser
from tests.rogue import open_rogue_agent
from tests.stack import Person, RawApp, Script, Stack, open_stack, without_secrets
from tport.engine.errors import TportError
from tport.engine.net.tls import accept_tls
from tport.engine.types.app import App, Timeouts, UpstreamTls

JSON = {"Accept": "application/json"}
HOUR = timedelta(hours=1)
CA = trustme.CA()


async def _reset(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _hang_up(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)


async def _nonsense(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def _silence(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def _speak_tls(stream: trio.SocketStream) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("elsewhere.test").configure_cert(context)
    with suppress(TportError):  # a handshake that the agent breaks off, as it should
        async with await accept_tls(stream, context) as tls:
            await tls.receive_some(1)


FAULTS = {
    "no-route.test": OSError(errno.EHOSTUNREACH, "No route to host"),
    "no-name.test": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "no-dns.test": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
}


@pytest.fixture
async def stack(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Stack]:
    dial = trio.open_tcp_stream

    async def dial_or_fail(host: str, port: int, **more: object) -> trio.SocketStream:
        if host in FAULTS:
            raise FAULTS[host]
        if host == "silent.test":
            await trio.sleep_forever()
        return await dial(host, port)

    async def serve(script: Script) -> str:
        app = RawApp()
        app.script = script
        return f"127.0.0.1:{await nursery.start(app.run)}"

    monkeypatch.setattr(trio, "open_tcp_stream", dial_or_fail)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(CA.cert_pem.bytes())
    by_name = UpstreamTls(ca_file=str(ca_file))
    brief = Timeouts(connect=0.2, response_head=0.2)
    tls = await serve(_speak_tls)
    async with open_stack(
        apps=[
            App(name="refused", uri="http://127.0.0.1:1"),
            App(name="no-route", uri="http://no-route.test:3000"),
            App(name="no-name", uri="http://no-name.test:3000"),
            App(name="no-dns", uri="http://no-dns.test:3000"),
            App(name="silent", uri="http://silent.test:3000", timeouts=brief),
            App(name="slow", uri=f"http://{await serve(_silence)}", timeouts=brief),
            App(name="reset", uri=f"http://{await serve(_reset)}"),
            App(name="hang-up", uri=f"http://{await serve(_hang_up)}"),
            App(name="nonsense", uri=f"http://{await serve(_nonsense)}"),
            App(name="tls-trust", uri=f"https://{tls}"),
            App(
                name="tls-name", uri=f"https://{tls.replace('127.0.0.1', 'localhost')}", tls=by_name
            ),
            App(name="wants-tls", uri=f"http://{tls}"),
            App(name="no-tls", uri=f"https://{await serve(_nonsense)}"),
        ],
        drain=False,
    ) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    return await stack.user("alice")


CAUSES = {
    "refused": (502, "unreachable", "connection refused", "Nothing listens there"),
    "no-route": (502, "unreachable", "there is no way to that network", "Check the address"),
    "no-name": (502, "unreachable", "no such host", "Check how the name is spelled"),
    "no-dns": (502, "unreachable", "its name can't be looked up now", "Does name resolution work"),
    "silent": (502, "unreachable", "does not answer (waited 0.2 s)", "A firewall that drops"),
    "slow": (
        504,
        "timeout",
        "did not answer within 0.2 s",
        "Look at whether the application hangs",
    ),
    "reset": (502, "broken-answer", "reset the connection before it answered", "Look at the"),
    "hang-up": (502, "broken-answer", "closed the connection without an answer", "Look at the"),
    "nonsense": (502, "broken-answer", "the application's answer makes no sense", "Look at the"),
    "tls-trust": (
        502,
        "unreachable",
        "an authority that this machine does not",
        "Name its authority",
    ),
    "tls-name": (
        502,
        "unreachable",
        "is for another name than localhost",
        "Call it by its own name",
    ),
    "wants-tls": (502, "unreachable", "its uri must begin with https://", "Correct the uri"),
    "no-tls": (502, "unreachable", "its uri must begin with http://", "Correct the uri"),
}


async def test_each_cause_is_told_in_plain_words_with_its_hop_and_what_to_do(
    stack: Stack, alice: Person
) -> None:
    wrong: dict[str, object] = {}
    for app, (status, error, cause, advice) in CAUSES.items():
        answer = await alice.get(app, **JSON)
        told = json.loads(answer.body)
        fits = (
            (answer.status, told["error"], told["hop"], told["app"]) == (status, error, "app", app)
            and cause in told["cause"]
            and told["advice"].startswith(advice)
            and told["advice"].endswith((".", "?"))
            and re.fullmatch(r"[0-9a-f]{16}", told["request_id"])
            and abs(datetime.fromisoformat(told["since"]) - datetime.now(UTC)) < HOUR
        )
        if not fits:
            wrong[app] = (answer.status, told)

    assert wrong == {}


async def test_since_when_is_since_the_application_last_answered(
    stack: Stack, alice: Person
) -> None:
    first = json.loads((await alice.get("reset", **JSON)).body)
    second = json.loads((await alice.get("reset", **JSON)).body)
    stack.raw_app.script = _reset
    third = json.loads((await alice.get("raw", **JSON)).body)
    stack.raw_app.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert (await alice.get("raw")).status == 200
    stack.raw_app.script = _reset
    fourth = json.loads((await alice.get("raw", **JSON)).body)

    assert first["since"] == second["since"]
    assert third["since"] < fourth["since"]
    assert first["request_id"] != second["request_id"]


async def test_people_see_the_hops_the_cause_and_what_to_do(stack: Stack, alice: Person) -> None:
    answer = await alice.get("refused", **NAVIGATION)

    page = answer.body.decode()
    assert answer.status == 502
    for words in (
        "testhost",
        "connection refused",
        "Nothing listens there",
        "here after",
        "Request",
    ):
        assert words in page


async def test_an_offline_application_is_told_from_one_nobody_may_see(stack: Stack) -> None:
    """HTTP-07: who may open it is told that no agent offers it, signed in there or not; all others
    the same as for no application."""
    alice = await stack.user("alice")
    await stack.outsider("mallory")
    lonely = App(name="lonely", uri="http://127.0.0.1:1")
    async with open_rogue_agent(stack) as agent, agent.tunnel(lonely):
        await alice.open("lonely")
    offline = json.loads((await alice.get("lonely", **JSON)).body)
    pages = {}
    for who in ("alice", "mallory"):
        browser = Browser(stack)
        await browser.sign_in(who)
        pages[who] = [await browser.go(stack.url(app)) for app in ("lonely", "echo", "no-such-app")]

    assert (offline["error"], offline["hop"]) == ("unreachable", "agent")
    assert "no agent that offers lonely is connected" in offline["cause"]
    assert offline["advice"].startswith("Start the agent")
    assert abs(datetime.fromisoformat(offline["since"]) - datetime.now(UTC)) < HOUR
    assert [answer.status for answer in pages["alice"]] == [503, 200, 403]
    assert b"no agent that offers lonely is connected" in pages["alice"][0].body
    assert [answer.status for answer in pages["mallory"]] == [403, 403, 403]
    away, echo, none = (without_secrets(answer.body) for answer in pages["mallory"])
    assert away.replace(b"lonely", b"no-such-app") == none
    assert echo.replace(b"echo", b"no-such-app") == none
