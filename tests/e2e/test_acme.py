"""Certificates by ACME from pebble -strict: each kind of challenge, and what goes wrong."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import ssl
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx2
import pytest
import trio
from cryptography import x509
from msgspec.structs import replace

from tests.e2e.harness import Tport
from tests.pebble import Pebble, choose_ports, open_pebble, write_txt_hook
from tests.ports import free_port
from tests.security.conftest import MovableClock
from tests.stack import Stack, open_stack
from tport.engine.config.address import Address
from tport.engine.config.model import Acme, Eab, Secret
from tport.engine.net.flow import relay
from tport.engine.types.acme import AcmeState
from tport.engine.types.certificate import CertState

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    # A test ends by cancelling all, an order on its way too; httpx2 leaves a socket behind when it
    # is cancelled in a TLS handshake.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]

DOMAIN = "tport.test"
PATIENCE = 90.0  # s for an order, on a busy machine


def acme(pebble: Pebble, http_addr: Address | None = None, dns_hook: Path | None = None) -> Acme:
    return Acme(
        enabled=True,
        email="alice@example.com",
        uri=pebble.directory,
        ca_file=pebble.ca_file,
        http_addr=http_addr,
        dns_hook=dns_hook,
    )


@pytest.fixture(autouse=True)
def left_behind() -> Iterator[None]:
    """Have what was left behind collected here, not in the middle of another test."""
    yield
    gc.collect()


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


async def listed(stack: Stack, host: str, holds: Callable[[CertState], bool]) -> CertState:
    """Return what the page Certificates and `tport certs ls` say of a host, once it holds."""
    admin = stack.running.admin
    assert admin is not None
    with trio.fail_after(PATIENCE):
        while True:
            for info in await admin.list_certificates():
                if info.state.host == host and holds(info.state):
                    return info.state
            await trio.sleep(0.1)


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


async def test_half_of_all_nonces_refused_costs_time_and_nothing_else(tmp_path: Path) -> None:
    port = free_port()
    async with (
        open_pebble(tmp_path, tls_port=port, bad_nonces=50) as pebble,
        open_stack(acme=acme(pebble), domain=DOMAIN, port=port, drain=False) as stack,
    ):
        root = await pebble.root()
        for host in (DOMAIN, f"echo.{DOMAIN}"):
            assert names(await shown(stack, host, root)) == [host]


async def test_a_ca_that_asks_by_http_is_answered_on_port_80(tmp_path: Path) -> None:
    """And people who come there are sent to https."""
    port, http = free_port(), free_port()
    address = Address("127.0.0.1", http)
    async with (
        open_pebble(tmp_path, tls_port=1, http_port=http) as pebble,  # nothing is at 1
        open_stack(acme=acme(pebble, address), domain=DOMAIN, port=port, drain=False) as stack,
    ):
        root = await pebble.root()
        assert names(await shown(stack, DOMAIN, root)) == [DOMAIN]
        async with httpx2.AsyncClient() as client:
            answer = await client.get(
                f"http://127.0.0.1:{http}/a?b", headers={"Host": f"echo.{DOMAIN}"}
            )
        assert answer.status_code == 301
        assert answer.headers["location"] == f"https://echo.{DOMAIN}:{port}/a?b"


async def test_a_wildcard_comes_by_the_operators_program(tmp_path: Path) -> None:
    """DNS-01: one certificate for the proxy and all below it; the records are taken away after."""
    port = free_port()
    ports = choose_ports()
    hook = write_txt_hook(tmp_path, ports)
    async with (
        open_pebble(tmp_path, tls_port=1, ports=ports) as pebble,
        open_stack(
            acme=acme(pebble, dns_hook=hook), domain=DOMAIN, port=port, drain=False
        ) as stack,
    ):
        root = await pebble.root()
        first = await shown(stack, f"echo.{DOMAIN}", root)
        assert sorted(names(first)) == [f"*.{DOMAIN}", DOMAIN]
        assert await shown(stack, DOMAIN, root) == first
        assert await shown(stack, f"raw.{DOMAIN}", root) == first
        assert list(await states(stack)) == [DOMAIN]
    calls = [line.split()[:2] for line in (tmp_path / "calls").read_text().splitlines()]
    record = f"_acme-challenge.{DOMAIN}"
    assert calls == [["present", record]] * 2 + [["cleanup", record]] * 2


async def test_a_ca_that_wants_an_account_gets_the_operators(tmp_path: Path) -> None:
    """External account binding: the key lies in a file."""
    port = free_port()
    key = urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    file = tmp_path / "eab.key"
    file.write_text(f"{key}\n")
    file.chmod(0o600)
    async with open_pebble(tmp_path, tls_port=port, mac_keys={"kid-1": key}) as pebble:
        settings = replace(acme(pebble), eab=Eab(kid="kid-1", hmac=Secret(str(file))))
        async with open_stack(acme=settings, domain=DOMAIN, port=port, drain=False) as stack:
            assert names(await shown(stack, DOMAIN, await pebble.root())) == [DOMAIN]


async def test_what_the_ca_says_when_it_fails_is_in_log_state_and_audit_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The name leads elsewhere: the CA finds nobody at the port. Browsers get the own authority's."""
    port = free_port()
    async with (
        open_pebble(tmp_path, tls_port=free_port()) as pebble,
        open_stack(acme=acme(pebble), domain=DOMAIN, port=port, drain=False) as stack,
    ):
        event = await stack.event("acme.order", host=DOMAIN)
        state = (await states(stack))[DOMAIN]
        for text in (state.problem, str(event["error"]), caplog.text):
            assert f"the CA says of {DOMAIN}" in text
            assert "Failed to connect" in text
        assert state.next_try is not None
        assert state.last_attempt is not None
        assert state.next_try - state.last_attempt >= timedelta(hours=1)
        assert names(await shown(stack, DOMAIN)) == [DOMAIN]
        told = await listed(stack, DOMAIN, lambda one: one.source == "acme" and one.problem != "")
        assert (told.problem, told.next_try) == (state.problem, state.next_try)
        await listed(
            stack, DOMAIN, lambda one: one.source == "own CA" and one.not_after is not None
        )


async def test_a_reload_tries_at_once_what_was_mended(tmp_path: Path) -> None:
    """By SIGHUP: who opens a port doesn't wait for an hour."""
    port, way = free_port(), free_port()
    async with (
        open_pebble(tmp_path, tls_port=way) as pebble,
        open_stack(acme=acme(pebble), domain=DOMAIN, port=port, drain=False) as stack,
        trio.open_nursery() as nursery,
    ):
        await stack.event("acme.order", host=DOMAIN, success=False)

        async def pass_on(inside: trio.SocketStream) -> None:
            await relay(inside, await trio.open_tcp_stream("127.0.0.1", port))

        await nursery.start(partial(trio.serve_tcp, pass_on, way, host="127.0.0.1"))
        stack.reload(stack.running.config.app_service)
        await stack.event("acme.order", host=DOMAIN, names=[DOMAIN])
        assert names(await shown(stack, DOMAIN, await pebble.root())) == [DOMAIN]
        nursery.cancel_scope.cancel()


async def test_a_name_that_the_ca_refuses_stops_no_other(tmp_path: Path) -> None:
    port = free_port()
    async with (
        open_pebble(tmp_path, tls_port=port, blocked=f"echo.{DOMAIN}") as pebble,
        open_stack(acme=acme(pebble), domain=DOMAIN, port=port, drain=False) as stack,
    ):
        root = await pebble.root()
        assert names(await shown(stack, f"echo.{DOMAIN}")) == [f"*.{DOMAIN}"]  # our own
        assert names(await shown(stack, f"raw.{DOMAIN}", root)) == [f"raw.{DOMAIN}"]
        assert "echo" in (await states(stack))[f"echo.{DOMAIN}"].problem


async def test_a_ca_that_restarts_with_fresh_roots_gets_the_account_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    async with (
        open_pebble(tmp_path, tls_port=port) as pebble,
        open_stack(acme=acme(pebble), domain=DOMAIN, port=port, drain=False) as stack,
    ):
        old = await pebble.root()
        await shown(stack, DOMAIN, old)
        await pebble.restart()
        new = await pebble.root()
        assert new != old
        assert names(await shown(stack, f"echo.{DOMAIN}", new)) == [f"echo.{DOMAIN}"]
        assert "the CA has forgotten the account" in caplog.text
        assert names(await shown(stack, DOMAIN, old)) == [DOMAIN]  # good for years still


async def test_a_renewal_under_load_fails_no_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten clients shake hands all the time; each is shown the old certificate or the new one."""
    monkeypatch.setattr("tport.engine.proxy.acme.LOOK_EVERY", 0.5)
    clock = MovableClock()
    monkeypatch.setattr("tport.engine.process.wall_clock", clock)
    port = free_port()
    async with (
        open_pebble(tmp_path, tls_port=port) as pebble,
        open_stack(acme=acme(pebble), domain=DOMAIN, port=port, drain=False) as stack,
    ):
        root = await pebble.root()
        first = await shown(stack, DOMAIN, root)
        seen: dict[int, int] = {}
        enough = trio.Event()

        async def visit() -> None:
            while True:
                found = await shown(stack, DOMAIN, root)
                seen[found.serial_number] = seen.get(found.serial_number, 0) + 1
                if seen.keys() - {first.serial_number} and min(seen.values()) > 50:
                    enough.set()

        async with trio.open_nursery() as load:
            for _ in range(10):
                load.start_soon(visit)
            with trio.fail_after(PATIENCE):
                while seen.get(first.serial_number, 0) <= 50:  # noqa: ASYNC110 - over a network
                    await trio.sleep(0.05)
            clock.ahead += (first.not_valid_after_utc - first.not_valid_before_utc) * 0.7
            with trio.fail_after(PATIENCE):
                await enough.wait()
            load.cancel_scope.cancel()
        assert len(seen) == 2


async def test_the_guides_line_starts_a_server_that_keeps_its_certificate(tmp_path: Path) -> None:
    """The program itself, by `tport configure --acme`; a restart shows what was there, at once."""
    port = free_port()
    tport = Tport(tmp_path)
    async with open_pebble(tmp_path, tls_port=port) as pebble:
        root = await pebble.root()

        def go() -> None:
            flags = ["--acme", "--acme-email=alice@example.com", f"--cluster-name={DOMAIN}"]
            text = tport.run("configure", *flags, f"--data-dir={tmp_path}/data").stdout
            ours = [f'    uri: "{pebble.directory}"', f'    ca_file: "{pebble.ca_file}"']
            text = text.replace("  acme:\n", "\n".join(["  acme:", *ours, ""]))
            text = text.replace(":443", f":{port}").replace("auth_service:\n", f"{AUTH}\n")
            file = tmp_path / "tport.yaml"
            file.write_text(text)

            process = tport.start("start", f"--config={file}")
            process.wait_for(f"certificate for {DOMAIN} obtained")
            first = leaf_at(port, root)
            assert process.stop() == 128 + signal.SIGTERM
            process = tport.start("start", f"--config={file}")
            process.wait_for("tport: ready")
            assert leaf_at(port, root) == first
            assert process.stop() == 128 + signal.SIGTERM
            assert "ordering" not in process.stderr
            assert f"certificates come by ACME from {pebble.directory}" in process.stderr

        try:
            await trio.to_thread.run_sync(go)
        finally:
            tport.end()


AUTH = 'auth_service:\n  listen_addr: "127.0.0.1:0"'


def leaf_at(port: int, root: str) -> bytes | None:
    """Return the certificate for our domain, verified."""
    context = ssl.create_default_context(cadata=root)
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=DOMAIN) as tls,
    ):
        return tls.getpeercert(binary_form=True)
