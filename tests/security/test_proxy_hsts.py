"""HSTS, through a whole proxy: said where every browser trusts the certificate, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trustme
from cryptography import x509

from tests.security.conftest import MovableClock
from tests.security.test_proxy_acme import HeldCa, open_proxy
from tests.stack import DOMAIN, Stack, open_stack
from tport.engine.config.model import KeyPair
from tport.engine.pki.keys import load_certificate

TWO_YEARS = ["max-age=63072000"]  # and no includeSubDomains, no preload
NAME = "strict-transport-security"
THEIRS = b"Strict-Transport-Security: max-age=9; includeSubDomains; preload\r\n"
WEBSOCKET = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + THEIRS + b"\r\n"
)


def file_pair(folder: Path, *names: str) -> KeyPair:
    """An operator's certificate for these names, in files."""
    made = trustme.CA().issue_cert(*names)
    pair = KeyPair(key_file=folder / "key.pem", cert_file=folder / "chain.pem")
    made.private_key_pem.write_to_path(str(pair.key_file))
    made.cert_chain_pems[0].write_to_path(str(pair.cert_file))
    return pair


async def said(stack: Stack) -> dict[str, list[str]]:
    """Return what each kind of answer says of HSTS. The application says something of its own."""
    alice = await stack.user("alice")
    await alice.open("raw")
    host, careless = stack.host("raw"), stack.context(verify=False)
    theirs, said = f"Host: {host}:{stack.port}\r\nCookie: {alice.cookie('raw')}\r\n", {}
    stack.raw_app.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + THEIRS + b"\r\n")
    for kind, name, head in (
        ("our page", DOMAIN, f"GET /web/login HTTP/1.1\r\nHost: {DOMAIN}\r\n"),
        ("to sign in", host, f"GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n"),
        ("application's", host, f"GET / HTTP/1.1\r\n{theirs}"),
        ("misdirected", host, f"GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n"),
        ("bad request", host, f"GET  / HTTP/1.1\r\n{theirs}"),
        ("WebSocket", host, f"GET /ws HTTP/1.1\r\n{theirs}Origin: {stack.url('raw', '')}\r\n{WEBSOCKET}"),
    ):  # fmt: skip
        if kind == "WebSocket":
            stack.raw_app.answers(SWITCHED)
        answer = await stack.raw(name, f"{head}\r\n".encode(), context=careless)
        said[f"{kind}: {answer.status}"] = answer.all(NAME)
    return said


KINDS = (
    *("our page: 200", "to sign in: 302", "application's: 200", "misdirected: 421"),
    *("bad request: 400", "WebSocket: 101"),
)


async def test_with_the_own_authority_nobody_is_told_to_keep_to_https() -> None:
    """Not even by an application: who hasn't added the authority yet would be locked out."""
    async with open_stack(drain=False) as stack:
        assert await said(stack) == {kind: [] for kind in KINDS}


async def test_with_the_operators_certificate_every_answer_says_it_of_its_own_host_alone(
    tmp_path: Path,
) -> None:
    """Once, without sub-domains, which may be somebody else's, whatever an application says."""
    pair = file_pair(tmp_path, DOMAIN, f"*.{DOMAIN}")
    async with open_stack(key_pairs=[pair], drain=False) as stack:
        assert await said(stack) == dict.fromkeys(KINDS, TWO_YEARS)


async def test_it_is_said_by_the_certificate_of_the_connection(tmp_path: Path) -> None:
    """The operator has one for an application; the proxy's name has the own authority's."""
    pair = file_pair(tmp_path, f"echo.{DOMAIN}")
    async with open_stack(key_pairs=[pair], drain=False) as stack:
        context, got = stack.context(verify=False), {}
        for host in (DOMAIN, f"echo.{DOMAIN}", f"raw.{DOMAIN}"):
            got[host] = (await stack.request(host, "/", context=context)).all(NAME)

    assert got == {DOMAIN: [], f"echo.{DOMAIN}": TWO_YEARS, f"raw.{DOMAIN}": []}


@pytest.mark.parametrize(("staging", "expected"), [(False, TWO_YEARS), (True, [])])
async def test_with_acme_it_is_said_but_not_in_a_trial(
    clock: MovableClock, monkeypatch: pytest.MonkeyPatch, staging: bool, expected: list[str]
) -> None:
    ca = HeldCa(clock)
    async with open_proxy(ca, monkeypatch, staging=staging) as stack:
        context = stack.context(verify=False)
        before = await stack.request("tport.test", "/webapi/ping", context=context)
        ca.may_look.set()
        with trio.fail_after(20):
            while True:
                if await by_the_ca(stack):
                    break
                await trio.sleep(0.05)  # the order is under way, in real time
        after = await stack.request("tport.test", "/webapi/ping", context=context)

    assert (before.all(NAME), after.all(NAME)) == ([], expected)


async def by_the_ca(stack: Stack) -> bool:
    """Whether the proxy shows what the CA has issued, and not what its own authority has."""
    async with await stack.connect("tport.test", context=stack.context(verify=False)) as tls:
        assert tls.peer_certificate is not None
        leaf = x509.load_der_x509_certificate(tls.peer_certificate)
        return leaf.issuer != load_certificate(stack.ca).subject
