"""Certificates by ACME from pebble -strict: each kind of challenge, and what goes wrong."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
from cryptography import x509

from tests.e2e.harness import free_port
from tests.pebble import Pebble, open_pebble
from tests.stack import Stack, open_stack
from tport.engine.config.address import Address
from tport.engine.config.model import Acme
from tport.engine.types.acme import AcmeState

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

DOMAIN = "tport.test"
PATIENCE = 40.0  # s for an order, on a busy machine


def acme(pebble: Pebble, http_addr: Address | None = None, dns_hook: Path | None = None) -> Acme:
    return Acme(
        enabled=True,
        email="alice@example.com",
        uri=pebble.directory,
        ca_file=pebble.ca_file,
        http_addr=http_addr,
        dns_hook=dns_hook,
    )


async def shown(stack: Stack, name: str, root: str = "") -> x509.Certificate:
    """Return the certificate that a browser gets, which trusts `root` and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root or stack.ca)
    context.set_alpn_protocols(["http/1.1"])
    with trio.fail_after(PATIENCE):
        tls = await stack.connect(name, context=context)
        found = tls.peer_certificate
        await trio.aclose_forcefully(tls)
    assert found is not None
    return x509.load_der_x509_certificate(found)


def names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.DNSName)


async def states(stack: Stack) -> dict[str, AcmeState]:
    service = stack.running.auth
    assert service is not None
    return {state.name: state for state in await service.cluster.stores.acme.all()}


async def test_proxy_and_apps_get_certificates_on_the_public_port(tmp_path: Path) -> None:
    """TLS-ALPN-01, with one nonce in twenty refused; each host has one of its own, when asked for."""
    port = free_port()
    async with (
        open_pebble(tmp_path, tls_port=port, bad_nonces=5) as pebble,
        open_stack(acme=acme(pebble), domain=DOMAIN, port=port, drain=False) as stack,
    ):
        root = await pebble.root()
        for host in (DOMAIN, f"echo.{DOMAIN}", f"raw.{DOMAIN}"):
            found = await shown(stack, host, root)
            assert names(found) == [host]
        assert set(await states(stack)) == {DOMAIN, f"echo.{DOMAIN}", f"raw.{DOMAIN}"}
