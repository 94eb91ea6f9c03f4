"""TLS-11 and TLS-13 at a running proxy's door: which certificate is shown to whom."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from typing import Final

import pytest
import trio
from cryptography import x509
from cryptography.x509 import verification

from tests.stack import DOMAIN, Stack, open_stack
from tport.engine.pki.keys import load_certificate
from tport.engine.types.app import App

ODD: Final = "odd.test"
INVENTED: Final = 1000


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    apps = [App(name="odd", uri="http://127.0.0.1:9", public_addr=ODD)]
    async with open_stack(apps=apps, drain=False) as opened:
        yield opened


def visit(port: int, context: ssl.SSLContext, name: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        context.wrap_socket(plain, server_hostname=name).close()


def names_shown(port: int, server_name: str | None) -> list[str]:
    """Return the names of the certificate that a client is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
        assert der is not None
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return names.value.get_values_for_type(x509.DNSName)


async def test_tls_13_a_thousand_invented_names_cost_no_certificate(stack: Stack) -> None:
    """TLS-13: two leaves are made at most: the proxy's own, and the one for all names below it."""
    proxy = stack.running.auth
    assert proxy is not None

    def ask() -> set[str]:
        shown: set[str] = set()
        for number in range(INVENTED):
            name = (f"x{number}.test", f"x{number}.{DOMAIN}", f"a.x{number}.{DOMAIN}")[number % 3]
            shown.update(names_shown(stack.port, name))
        return shown

    shown = await trio.to_thread.run_sync(ask)

    assert shown == {DOMAIN, f"*.{DOMAIN}"}
    made = [str(event["host"]) for event in await stack.events("cert.create") if "host" in event]
    assert sorted(made) == sorted({DOMAIN, f"*.{DOMAIN}"}), made
    assert {info.state.host for info in await stack.admin.list_certificates()} <= {
        *(DOMAIN, ODD),
        *(stack.host(app) for app in ("echo", "raw", "dumper")),
    }


@pytest.mark.parametrize("spelling", [str.upper, str.title, lambda name: f"{name}."])
async def test_tls_11_each_spelling_of_a_name_is_shown_the_same_certificate(
    stack: Stack, spelling: object
) -> None:
    """TLS-11: case and the root's dot are no difference in SNI."""
    assert callable(spelling)
    name = spelling(stack.host("echo"))

    assert await trio.to_thread.run_sync(names_shown, stack.port, name) == [f"*.{DOMAIN}"]


async def test_http_07_a_certificate_does_not_tell_strangers_which_applications_there_are(
    stack: Stack,
) -> None:
    """Nor does what is answered to them."""
    names = (stack.host("echo"), stack.host("raw"), f"nobody.{DOMAIN}")
    shown = [await trio.to_thread.run_sync(names_shown, stack.port, name) for name in names]
    answers = [await stack.request(name, "/", {"Accept": "text/html"}) for name in names]

    assert shown == [[f"*.{DOMAIN}"]] * 3
    assert [answer.status for answer in answers] == [302] * 3


async def test_an_application_elsewhere_without_a_certificate_is_told_and_shown_the_proxys(
    stack: Stack,
) -> None:
    """Its browser warns that the certificate is another host's, and that is true."""
    assert await trio.to_thread.run_sync(names_shown, stack.port, ODD) == [DOMAIN]
    strict = stack.context()
    strict.check_hostname = True
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        await trio.to_thread.run_sync(visit, stack.port, strict, ODD)
    with trio.fail_after(10):
        while True:
            told = {info.state.host: info.state for info in await stack.admin.list_certificates()}
            if ODD in told:
                break
            await trio.sleep(0.05)  # the proxy tells on its own, in real time

    assert told[ODD].source == "none"
    assert "needs a certificate" in told[ODD].problem
    assert "https_keypairs" in told[ODD].advice
    assert told[stack.host("echo")].source == "own CA"


async def test_what_is_shown_of_the_own_authority_satisfies_a_strict_verifier(stack: Stack) -> None:
    """As Go, rustls and Chromium verify: the CA's constraints, key usages, and the leaf's one name."""
    store = verification.Store([load_certificate(stack.ca)])
    for name, meant in (
        *((DOMAIN, DOMAIN), (stack.host("echo"), stack.host("echo"))),
        (f"nobody.{DOMAIN}", f"nobody.{DOMAIN}"),
        (None, DOMAIN),
    ):
        async with await stack.connect(name, context=stack.context(verify=False)) as tls:
            assert tls.peer_certificate is not None
            leaf = x509.load_der_x509_certificate(tls.peer_certificate)
        builder = verification.PolicyBuilder().store(store)

        builder.build_server_verifier(x509.DNSName(meant)).verify(leaf, [])
        with pytest.raises(verification.VerificationError):
            builder.build_server_verifier(x509.DNSName(f"x.{meant}")).verify(leaf, [])
