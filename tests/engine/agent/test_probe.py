"""What an application needs is found by trying it: each habit of real ones, and what follows from it."""

from __future__ import annotations

from typing import cast

import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.agent.serving import Answer, serving
from tests.fakes import START
from tport.engine.agent import debug_app, upstream
from tport.engine.agent.passage import Offered
from tport.engine.agent.prober import Prober, try_app
from tport.engine.agent.rewrite import Rewriter
from tport.engine.api.changes import ProbeAsked
from tport.engine.api.protocol import AuthAPI
from tport.engine.net.http1 import Exchange
from tport.engine.proto.websocket import accept_key
from tport.engine.types.app import App, Header, Rewrite, UpstreamTls
from tport.engine.types.probe import Finding, ProbeReport, Proposal

PUBLIC = "thing.proxy.test:3080"
HTML = [(b"content-type", b"text/html; charset=utf-8")]
PAGE = b"<!doctype html><title> My \n Thing </title><link rel='shortcut icon' href='/i.png'>"


def header(exchange: Exchange, name: bytes) -> bytes:
    return next((v for n, v in exchange.request.headers if n == name), b"")


def origin_differs(exchange: Exchange) -> bool:
    origin = header(exchange, b"origin")
    return bool(origin) and origin.partition(b"://")[2] != header(exchange, b"host")


async def plain(exchange: Exchange) -> None:
    """A page at /, an icon, nothing else."""
    if exchange.request.target == b"/i.png":
        await exchange.respond(200, [(b"content-type", b"image/png")], b"png")
    elif exchange.request.target != b"/":
        await exchange.respond(404, HTML)
    else:
        await exchange.respond(200, HTML, PAGE)


async def sockets(exchange: Exchange) -> None:
    """A WebSocket at /."""
    if exchange.request.upgrade:
        key = accept_key(header(exchange, b"sec-websocket-key"))
        async with await exchange.upgrade([(b"sec-websocket-accept", key)]) as stream:
            await stream.receive_some()
    else:
        await plain(exchange)


async def tried(app: App, *, deadline: float = 20) -> ProbeReport:
    return await try_app(app, PUBLIC, hostname="apphost", clock=lambda: START, deadline=deadline)


async def tried_at(answer: Answer, path: str = "", name: str = "thing") -> ProbeReport:
    async with serving(answer) as port:
        return await tried(App(name=name, uri=f"http://127.0.0.1:{port}{path}"))
    # Ports differ from run to run; what is said of them doesn't.


def of(report: ProbeReport, check: str) -> Finding:
    """Return the one finding of a check."""
    [found] = [finding for finding in report.findings if finding.check == check]
    return found


async def test_an_application_that_needs_nothing_gets_no_proposal() -> None:
    report = await tried_at(plain)

    assert report.proposal == Proposal()
    assert {finding.verdict for finding in report.findings} == {"ok"}
    assert report.title == "My Thing"
    assert of(report, "icon").saw == "its icon is at /i.png"
    assert of(report, "page").saw == "the page 'My Thing' is at / (200)"
    assert of(report, "headers").saw == "it takes heads of 8 KiB"


async def test_one_that_compares_origin_with_host_gets_the_public_host() -> None:
    """As Jupyter and Grafana: pages open, and then nothing can be saved."""

    async def careful(exchange: Exchange) -> None:
        if origin_differs(exchange):
            await exchange.respond(403, HTML)
        else:
            await sockets(exchange)

    report = await tried_at(careful)

    assert report.proposal == Proposal(host=PUBLIC)
    assert of(report, "host").verdict == "change"
    assert "compares Origin with Host" in of(report, "host").saw
    assert of(report, "websocket").saw == "WebSockets open at /"
    assert of(report, "origin").verdict == "ok"


async def test_what_is_set_as_proposed_is_found_to_be_right() -> None:
    async def careful(exchange: Exchange) -> None:
        await (exchange.respond(403, HTML) if origin_differs(exchange) else plain(exchange))

    async with serving(careful) as port:
        app = App(name="thing", uri=f"http://127.0.0.1:{port}")
        proposed = (await tried(app)).proposal
        report = await tried(proposed.applied(app))

    assert proposed
    assert report.proposal == Proposal()
    assert of(report, "host").verdict == "ok"


async def test_one_that_knows_its_own_name_alone_keeps_it() -> None:
    """As Syncthing: another Host is DNS rebinding to it."""

    async def choosy(exchange: Exchange) -> None:
        if header(exchange, b"host").startswith(b"127.0.0.1"):
            await plain(exchange)
        else:
            await exchange.respond(403, HTML)

    async with serving(choosy) as port:
        app = App(name="thing", uri=f"http://127.0.0.1:{port}")
        as_it_is = await tried(app)
        spoiled = App(name="thing", uri=app.uri, rewrite=Rewrite(headers=(Header("Host", PUBLIC),)))
        mended = await tried(spoiled)

    assert as_it_is.proposal == Proposal()
    assert mended.proposal == Proposal(host=f"127.0.0.1:{port}")
    assert mended.proposal.applied(spoiled).rewrite.headers == (
        Header("Host", f"127.0.0.1:{port}"),
    )


async def test_a_host_that_spares_people_the_sign_in_is_not_proposed() -> None:
    async def trusting(exchange: Exchange) -> None:
        is_local = header(exchange, b"host").startswith(b"127.0.0.1")
        await (plain(exchange) if is_local else exchange.respond(401, HTML))

    async with serving(trusting) as port:
        public = Rewrite(headers=(Header("Host", PUBLIC),))
        report = await tried(App(name="thing", uri=f"http://127.0.0.1:{port}", rewrite=public))

    assert report.proposal == Proposal()


@pytest.mark.parametrize(
    "page",
    [b"<![x[", b"<title>&#" + b"9" * 5000 + b";</title>", b"<a href='http://[/'>", b"\xff<"],
)
async def test_a_page_that_makes_no_sense_is_a_page(page: bytes) -> None:
    async def odd(exchange: Exchange) -> None:
        await exchange.respond(200, HTML, page)

    assert of(await tried_at(odd), "page").verdict == "ok"


async def test_one_with_a_list_of_origins_is_told_from_one_that_compares() -> None:
    """As Streamlit: no header of ours helps, its own settings do."""

    async def listing(exchange: Exchange) -> None:
        origin = header(exchange, b"origin")
        if origin and not origin.startswith(b"http://127.0.0.1"):
            await exchange.respond(403, HTML)
        else:
            await sockets(exchange)

    report = await tried_at(listing)

    assert report.proposal == Proposal()
    found = of(report, "origin")
    assert (found.verdict, found.advice) == (
        "fails",
        f"add https://{PUBLIC} to the origins that the application itself allows or trusts",
    )


@pytest.mark.parametrize(
    ("location", "verdict", "redirect"),
    [
        ("/login", "ok", ()),
        ("http://{own}/login", "ok", ()),  # the agent makes its own URI public by itself
        ("http://localhost:9999/login", "change", ("localhost",)),
        ("https://apphost/login", "change", ("apphost",)),
        ("https://login.example.com/authorize", "note", ()),  # may well be a sign-in elsewhere
        ("http://[/", "note", ()),
    ],
)
async def test_redirects_to_names_of_the_machine_are_to_be_made_public(
    location: str, verdict: str, redirect: tuple[str, ...]
) -> None:
    async def redirecting(exchange: Exchange) -> None:
        if exchange.request.target == b"/":
            own = header(exchange, b"host").decode()
            where = location.format(own=own).encode()
            await exchange.respond(302, [(b"location", where)])
        else:
            await exchange.respond(200, HTML, PAGE)

    report = await tried_at(redirecting)

    assert of(report, "redirects").verdict == verdict
    assert report.proposal == Proposal(redirect=redirect)


async def test_one_that_speaks_https_gets_the_uri_that_says_so() -> None:
    """Its certificate is another matter: on the machine itself nobody can stand between."""
    leaf = trustme.CA().issue_cert("127.0.0.1")

    async with serving(plain, tls=leaf) as port:
        report = await tried(App(name="thing", uri=f"http://127.0.0.1:{port}/"))

    assert report.proposal == Proposal(uri=f"https://127.0.0.1:{port}/", insecure_skip_verify=True)
    saws = [(f.verdict, f.saw) for f in report.findings]
    assert saws[0] == ("change", "it speaks https there")
    assert saws[1][0] == "fails"
    assert "certificate" in saws[1][1]


async def test_whose_authority_is_named_is_not_left_unverified() -> None:
    """The operator chose who vouches; and the file refuses both settings side by side."""
    leaf = trustme.CA().issue_cert("127.0.0.1")
    with trustme.CA().cert_pem.tempfile() as ca_file:
        async with serving(plain, tls=leaf) as port:
            tls = UpstreamTls(ca_file=ca_file)
            report = await tried(App(name="thing", uri=f"https://127.0.0.1:{port}/", tls=tls))

    assert report.proposal == Proposal()
    assert "certificate" in of(report, "connection").saw


async def test_one_that_asks_for_a_certificate_is_not_left_unverified() -> None:
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")

    async with serving(plain, tls=leaf, clients=ca) as port:
        uri = f"https://127.0.0.1:{port}/"
        report = await tried(App(name="thing", uri=uri, insecure_skip_verify=True))

    assert "certificate" in of(report, "connection").saw
    assert report.proposal == Proposal()


async def test_nobody_in_between_talks_people_out_of_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """AG-09: whoever can answer in another machine's place can answer without TLS, too."""

    async with serving(plain) as port:

        async def misled(host: str, _port: int, *, deadline: float) -> trio.SocketStream:
            return await trio.open_tcp_stream("127.0.0.1", port)

        monkeypatch.setattr(upstream, "dial_tcp", misled)
        report = await tried(App(name="thing", uri="https://app.example.com:8443"))

    assert report.proposal == Proposal()
    assert of(report, "connection").verdict == "fails"


async def test_one_that_speaks_http_alone_gets_the_uri_that_says_so() -> None:
    async with serving(plain) as port:
        report = await tried(App(name="thing", uri=f"https://127.0.0.1:{port}"))

    assert report.proposal == Proposal(uri=f"http://127.0.0.1:{port}")
    assert of(report, "connection").advice == f"the uri is http://127.0.0.1:{port}"
    assert report.title == "My Thing"


@pytest.mark.parametrize(
    ("limit", "verdict", "claims"),
    [(20_000, "ok", None), (10_000, "ok", None), (6000, "note", None), (2000, "change", "none")],
)
async def test_one_that_takes_small_heads_only_gets_a_short_jwt(
    limit: int, verdict: str, claims: str | None
) -> None:
    async def small(exchange: Exchange) -> None:
        size = sum(len(n) + len(v) for n, v in exchange.request.headers)
        await (exchange.respond(431, HTML) if size > limit else plain(exchange))

    report = await tried_at(small)

    assert of(report, "headers").verdict == verdict
    assert report.proposal.jwt_claims == claims


async def test_the_first_event_of_a_stream_is_waited_for_and_the_rest_is_not() -> None:
    async def streaming(exchange: Exchange) -> None:
        if header(exchange, b"accept") != b"text/event-stream":
            await plain(exchange)
            return
        await exchange.send_head(200, [(b"content-type", b"text/event-stream")])
        await exchange.send_body(b"data: 1\n\n")
        await trio.sleep_forever()

    report = await tried_at(streaming)

    assert of(report, "events").saw.startswith("first byte of the events at / after ")


async def test_cookies_for_a_whole_domain_are_said_to_be_narrowed() -> None:
    async def wide(exchange: Exchange) -> None:
        cookie = (b"set-cookie", b"a=b; Domain=.example.com; Secure")
        await exchange.respond(200, [*HTML, cookie], PAGE)

    report = await tried_at(wide)

    found = of(report, "cookies")
    assert found.saw == "cookies for .example.com are made the application's own"


async def test_one_in_a_sub_directory_is_tried_there() -> None:
    async def below(exchange: Exchange) -> None:
        ok = exchange.request.target.startswith(b"/deep/")
        await (exchange.respond(200, HTML, PAGE) if ok else exchange.respond(404, HTML))

    report = await tried_at(below, "/deep/")

    assert report.proposal == Proposal()
    assert of(report, "path").saw == "/ leads people to /deep/, all else passes as it is"


async def test_nothing_there_is_one_finding_with_what_to_do() -> None:
    async with serving(plain) as port:
        pass

    report = await tried(App(name="thing", uri=f"http://127.0.0.1:{port}"))

    [found] = report.findings
    assert (found.check, found.verdict) == ("connection", "fails")
    assert "connection refused" in found.saw
    assert "correct the port" in found.advice


async def test_a_silent_one_is_given_up_in_time(autojump_clock: MockClock) -> None:
    async def silent(exchange: Exchange) -> None:
        await trio.sleep_forever()

    report = await tried_at(silent)

    assert trio.current_time() < 30
    [found] = report.findings
    assert found.saw == "it gave no answer to / within 5 s"


async def test_one_that_turns_silent_costs_no_more_than_the_deadline(
    autojump_clock: MockClock,
) -> None:
    """What was seen until then is told; of what wasn't, nothing is claimed."""
    asked = 0

    async def tiring(exchange: Exchange) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            await trio.sleep_forever()
        await plain(exchange)

    report = await tried_at(tiring)

    assert trio.current_time() <= 20
    assert of(report, "connection").verdict == "ok"
    assert report.proposal == Proposal()


async def test_nobody_s_name_and_no_token_is_sent() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def noting(exchange: Exchange) -> None:
        seen.extend(exchange.request.headers)
        await plain(exchange)

    await tried_at(noting)

    names = {name for name, _ in seen}
    assert b"teleport-jwt-assertion" not in names
    assert b"cookie" not in names
    assert b"authorization" not in names
    assert {v for n, v in seen if n == b"x-forwarded-host"} == {PUBLIC.encode()}
    assert {v for n, v in seen if n == b"x-forwarded-for"} == {b"192.0.2.1"}


async def test_nothing_but_the_configured_address_is_dialled() -> None:
    """A page may name any icon and any redirect: another host's is not fetched."""
    strangers = 0

    async def stranger(exchange: Exchange) -> None:
        nonlocal strangers
        strangers += 1
        await plain(exchange)

    async with serving(stranger) as other:

        async def luring(exchange: Exchange) -> None:
            away = f"http://127.0.0.1:{other}/".encode()
            if exchange.request.target == b"/":
                await exchange.respond(302, [(b"location", b"/page")])
            elif exchange.request.target == b"/page":
                link = b"<link rel=icon href='%b'>" % away
                await exchange.respond(200, HTML, link)
            else:
                await exchange.respond(302, [(b"location", away)])

        await tried_at(luring)

    assert strangers == 0


class Told:
    """Auth, as far as an agent tells it what it found."""

    def __init__(self) -> None:
        self.reports: list[ProbeReport] = []

    async def probed(self, *, id: str, report: ProbeReport) -> None:
        self.reports.append(report)


async def test_the_debug_app_is_not_looked_for_at_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It runs within the agent; what listens at the URI that it shows is another application."""

    async def nowhere(host: str, port: int, *, deadline: float) -> trio.SocketStream:
        raise AssertionError(f"{host}:{port} was dialled")

    monkeypatch.setattr(upstream, "dial_tcp", nowhere)
    app = debug_app.DEFINITION
    offered = Offered(app, upstream.Upstream(app, lambda: START), Rewriter(app, hostname="h"))
    auth = Told()
    prober = Prober(
        {app.name: offered},
        cast("AuthAPI", auth),
        public_address=lambda _: PUBLIC,
        hostname="apphost",
        clock=lambda: START,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prober.keep)
        prober.ask(ProbeAsked(id="1", app=app.name))
        prober.ask(ProbeAsked(id="2", app="gone"))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    debug, gone = auth.reports
    assert of(debug, "connection").verdict == "ok"
    assert of(gone, "connection").saw == "this agent does not offer it any more"
