"""A CA is shown what is pending at it, for as long as it is, and nobody is shown anything else (TLS-13)."""

from __future__ import annotations

import ssl
from datetime import timedelta

import pytest
import trio
from cryptography import x509
from trio.testing import memory_stream_pair

from tests.acme_ca import DIRECTORY
from tests.fakes import WallClock
from tport.engine.errors import ConnectionProblem
from tport.engine.net.streams import PrefixedStream
from tport.engine.proxy import acme_proof as acme_proof_module
from tport.engine.proxy.acme_proof import AcmeProofs
from tport.engine.types.acme import AcmeOrder, AcmeState, Challenge, ChallengeKind

TLS_ALPN = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 §3
NAMES = ("proxy.test", "grafana.proxy.test")


class Pending:
    """Proofs of a proxy for which an order is pending for each of NAMES, for a minute."""

    def __init__(self, kind: ChallengeKind = "tls-alpn-01", directory: str = DIRECTORY) -> None:
        self.clock = WallClock()
        expires = self.clock() + timedelta(minutes=1)
        self.states = {
            (directory, name): AcmeState(
                directory=directory,
                name=name,
                names=(name,),
                order=AcmeOrder(
                    id="1", proxy="p1", expires=expires, challenges=self._challenges(kind, name)
                ),
            )
            for name in NAMES
        }
        self.states[directory, "idle.test"] = AcmeState(
            directory=directory, name="idle.test", names=("idle.test",)
        )
        self.proofs = AcmeProofs(DIRECTORY, lambda: self.states, self.clock)

    def _challenges(self, kind: ChallengeKind, name: str) -> tuple[Challenge, ...]:
        return (Challenge(name=name, kind=kind, token="t-1", key_authorization=f"t-1.{name}"),)

    async def ask(self, name: str) -> x509.Certificate:
        """Come as a CA does; return the certificate that is shown.

        Raises:
            trio.BrokenResourceError: the handshake was refused.
        """
        ours, theirs = memory_stream_pair()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which early releases of 3.11 set
        context.set_alpn_protocols(["acme-tls/1"])
        tls = trio.SSLStream(ours, context, server_hostname=name)

        async def prove() -> None:
            try:
                await self.proofs.prove_by_tls(PrefixedStream(b"", theirs), name)
            except ConnectionProblem:
                pass
            await trio.aclose_forcefully(theirs)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(prove)
            await tls.do_handshake()
            assert tls.selected_alpn_protocol() == "acme-tls/1"
            certificate = tls.getpeercert(binary_form=True)
            with pytest.raises((trio.BrokenResourceError, trio.EndOfChannel)):
                assert await tls.receive_some() != b""  # no HTTP is ever spoken here
        assert certificate is not None
        return x509.load_der_x509_certificate(certificate)


async def test_a_ca_that_comes_for_a_pending_name_is_shown_that_names_proof() -> None:
    pending = Pending()
    first, second = [await pending.ask(name) for name in NAMES]

    for certificate, name in ((first, NAMES[0]), (second, NAMES[1])):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [name]
        assert certificate.extensions.get_extension_for_oid(TLS_ALPN).critical
    assert await pending.ask(NAMES[0]) == first, "the same for as long as it is pending"


@pytest.mark.parametrize("name", ["idle.test", "other.test"])
async def test_who_comes_for_a_name_that_is_not_pending_is_refused(name: str) -> None:
    with pytest.RaisesGroup(trio.BrokenResourceError):
        await Pending().ask(name)


async def test_a_proof_is_over_with_its_order() -> None:
    pending = Pending()
    pending.clock.now += timedelta(minutes=1)
    with pytest.RaisesGroup(trio.BrokenResourceError):
        await pending.ask(NAMES[0])


async def test_what_is_pending_at_another_ca_is_not_shown() -> None:
    with pytest.RaisesGroup(trio.BrokenResourceError):
        await Pending(directory="https://other-ca.test/directory").ask(NAMES[0])


async def test_contexts_for_proofs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acme_proof_module, "MAX_CONTEXTS", 1)
    pending = Pending()
    for name in (*NAMES, *NAMES):
        await pending.ask(name)

    assert len(pending.proofs._contexts) == 1


def test_who_asks_by_http_is_told_what_is_pending_by_http_for_that_host_and_token() -> None:
    by_http = Pending("http-01").proofs

    assert by_http.by_http(NAMES[0], "t-1") == f"t-1.{NAMES[0]}"
    assert by_http.by_http(NAMES[0], "t-2") is None
    assert by_http.by_http("idle.test", "t-1") is None
    assert Pending("tls-alpn-01").proofs.by_http(NAMES[0], "t-1") is None
