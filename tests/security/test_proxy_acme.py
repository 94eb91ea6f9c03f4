"""TLS-13, through a whole proxy: what has to do with ACME opens nothing and costs nothing."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
import trio
from cryptography import x509

from tests.acme_ca import DIRECTORY, FakeCa
from tests.security.conftest import MovableClock
from tests.stack import Stack, open_stack, read_all
from tport.engine.config.model import Acme
from tport.engine.defaults import ALPN_ACME, ALPN_HTTP
from tport.engine.proto.acme import Request
from tport.engine.proto.acme_answers import Response

DOMAIN = "tport.test"
CHALLENGE = "/.well-known/acme-challenge"


class HeldCa(FakeCa):
    """Looks at challenges when it is told to."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self.may_look = trio.Event()
        self.pending = trio.Event()

    async def __call__(self, request: Request) -> Response:
        if "/chall/" in request.url:
            self.pending.set()
            await self.may_look.wait()
        await trio.lowlevel.checkpoint()
        return self.answer(request)


@asynccontextmanager
async def open_proxy(
    ca: HeldCa, monkeypatch: pytest.MonkeyPatch, *, staging: bool = False
) -> AsyncIterator[Stack]:
    monkeypatch.setattr("tport.engine.proxy.acme_part.HttpsTransport", lambda *_: ca)
    monkeypatch.setattr("tport.engine.proxy.acme.OWN_WAIT", 0.2)  # s; the CA is held up
    acme = Acme(enabled=True, uri=DIRECTORY, staging=staging)
    async with open_stack(acme=acme, domain=DOMAIN, drain=False) as stack:
        yield stack


@pytest.fixture
async def ca(clock: MovableClock) -> HeldCa:
    return HeldCa(clock)


async def test_tls_13_a_thousand_names_of_strangers_cause_no_order(
    ca: HeldCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca.may_look.set()
    chance = random.Random(1)
    async with open_proxy(ca, monkeypatch) as stack:
        await ca.pending.wait()  # the proxy's own
        hello = trio.CapacityLimiter(20)

        async def knock(name: str) -> None:
            async with hello:
                context = stack.context(verify=False)
                tls = await stack.connect(name, context=context)
                await trio.aclose_forcefully(tls)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(1000):
                    parent = (DOMAIN, "evil.test", f"echo.{DOMAIN}")[number % 3]
                    nursery.start_soon(knock, f"x{chance.randrange(10**9)}.{parent}")
        assert ca.orders_made == [[DOMAIN]]


async def test_tls_13_the_protocol_of_challenges_shows_one_certificate_and_speaks_no_http(
    ca: HeldCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only for the name with a pending order; every other gets an alert."""
    async with open_proxy(ca, monkeypatch) as stack:
        await ca.pending.wait()
        context = stack.context(alpn=[ALPN_ACME], verify=False)

        tls = await stack.connect(DOMAIN, context=context)
        assert tls.peer_certificate is not None
        leaf = x509.load_der_x509_certificate(tls.peer_certificate)
        assert [e.critical for e in leaf.extensions if "1.3.6.1.5.5.7.1.31" in str(e.oid)] == [True]
        with trio.fail_after(5):
            got = b""
            try:
                await tls.send_all(f"GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n".encode())
                got = await read_all(tls)
            except (trio.BrokenResourceError, ssl.SSLError):
                pass  # cut, which is as good
            assert got == b""
        await trio.aclose_forcefully(tls)

        for name in (f"echo.{DOMAIN}", "evil.test", None):
            with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
                await stack.connect(name, context=context)


async def test_tls_13_a_challenge_certificate_is_shown_to_no_browser(
    ca: HeldCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_proxy(ca, monkeypatch) as stack:
        await ca.pending.wait()
        both = stack.context(alpn=[ALPN_ACME, ALPN_HTTP], verify=False)
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            await stack.connect(DOMAIN, context=both)

        with trio.fail_after(20):
            tls = await stack.connect(DOMAIN, context=stack.context(verify=False))
        assert tls.peer_certificate is not None
        leaf = x509.load_der_x509_certificate(tls.peer_certificate)
        assert not [e for e in leaf.extensions if "1.3.6.1.5.5.7.1.31" in str(e.oid)]
        await trio.aclose_forcefully(tls)


async def test_tls_13_the_path_of_challenges_is_a_path_like_any_other(
    ca: HeldCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS nothing is answered there, and nobody reaches an application by it."""
    async with open_proxy(ca, monkeypatch) as stack:
        await ca.pending.wait()
        navigation = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
        navigation |= {"Sec-Fetch-Dest": "document"}
        context = stack.context(verify=False)
        [token] = [one["token"] for one in ca.challenges("http-01")]
        own = await stack.request(DOMAIN, f"{CHALLENGE}/{token}", context=context)
        assert own.status == 404
        ca.may_look.set()

        answer = await stack.request(
            f"echo.{DOMAIN}", f"{CHALLENGE}/{token}", navigation, context=context
        )
        assert answer.status == 302
        assert f"{DOMAIN}" in answer.header("location")
        assert stack.echo.seen == []
