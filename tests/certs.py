"""A cluster's authorities, certificates nobody should believe, and handshakes without a network."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tport.engine.api.answers import Authorities
from tport.engine.pki.authority import Authority, issue_host_certificate, new_authority
from tport.engine.pki.identity import IDENTITY_OID, KEY_USAGES
from tport.engine.pki.jwt import jwks
from tport.engine.pki.keys import KeyPair, load_certificate, load_private_key, make_key
from tport.engine.types.identity import Identity, IdentityKind

CLUSTER = "tport.test"


class Cluster:
    """All four authorities of one cluster. `now` is the real time unless said: OpenSSL asks it."""

    def __init__(self, now: datetime | None = None, name: str = CLUSTER) -> None:
        self.now = now or datetime.now(UTC)
        self.name = name
        self.host = new_authority("host", name, now=self.now)
        self.user = new_authority("user", name, now=self.now)
        self.web = new_authority("web", name, now=self.now, names=["proxy.test"])
        self.jwt = new_authority("jwt", name, now=self.now)

    @property
    def authorities(self) -> Authorities:
        return Authorities(
            cluster=self.name,
            host=self.host.trusted,
            web=self.web.trusted,
            user=self.user.trusted,
            jwks=jwks(self.jwt),
        )

    def identity(self, kind: IdentityKind, name: str = "one") -> Identity:
        return Identity(kind=kind, name=name, cluster=self.name)

    def pair(self, kind: IdentityKind) -> KeyPair:
        """A genuine certificate; people's are not issued by the product yet, so that is forged."""
        if kind in ("user", "admin"):
            return forge(self.user if kind == "user" else self.host, self.identity(kind))
        key = make_key()
        chain = issue_host_certificate(
            self.host, load_private_key(key).public_key(), self.identity(kind), now=self.now
        )
        return KeyPair(chain=chain, key=key)


# What may be damaged in a certificate so that it is one still, but none that can be read whole.
DAMAGES = {
    "an unknown kind of key": (b"\x2a\x86\x48\xce\x3d\x02\x01", b"\x2a\x86\x48\xce\x3d\x7f\x01"),
    "names that are something else": (b"\x55\x1d\x13", b"\x55\x1d\x11"),
    "an unknown version": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),
}


def damaged(pem: str, damage: str) -> str:
    """Return the first certificate of `pem` with one of DAMAGES done to it."""
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    wrong = ssl.DER_cert_to_PEM_cert(der.replace(*DAMAGES[damage]))
    assert wrong.split() != pem.split()
    return wrong


def forge(
    issuer: Authority | KeyPair | None,
    identity: Identity | bytes | None,
    *,
    ca: bool = False,
    purposes: Sequence[x509.ObjectIdentifier] | None = None,
    start: timedelta = timedelta(hours=-1),
    end: timedelta = timedelta(hours=1),
    critical: bool = True,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    without: type[x509.ExtensionType] | None = None,
    may_sign: bool = True,
    now: datetime | None = None,
) -> KeyPair:
    """Make a certificate as somebody with `issuer`'s key could (None: self-signed)."""
    moment, key = now or datetime.now(UTC), make_key()
    private = load_private_key(key)
    if issuer is None:
        signer, name = private, x509.Name.from_rfc4514_string("CN=self")
        issuer_key = private.public_key()
    else:
        certificate = load_certificate(
            issuer.trusted[0] if isinstance(issuer, Authority) else issuer.chain
        )
        signer, name = load_private_key(issuer.key), certificate.subject
        issuer_key = signer.public_key()
    if purposes is None:
        purposes = (
            KEY_USAGES[identity.kind] if isinstance(identity, Identity) else KEY_USAGES["agent"]
        )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name if issuer is None else x509.Name.from_rfc4514_string("CN=forged"))
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment + start)
        .not_valid_after(moment + end)
    )
    usual: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=ca, path_length=None), True),
        (_usage(ca=ca, may_sign=may_sign), True),
        (x509.ExtendedKeyUsage(purposes), False),
        (x509.SubjectKeyIdentifier.from_public_key(private.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False),
    ]
    if identity is not None:
        value = msgspec.json.encode(identity) if isinstance(identity, Identity) else identity
        builder = builder.add_extension(
            x509.UnrecognizedExtension(IDENTITY_OID, value), critical=critical
        )
    kept = [each for each in usual if type(each[0]) is not without]
    for extension, is_critical in [*kept, *extra]:
        builder = builder.add_extension(extension, critical=is_critical)
    signed = builder.sign(signer, hashes.SHA256())
    return KeyPair(chain=signed.public_bytes(serialization.Encoding.PEM).decode(), key=key)


def der(pair: KeyPair) -> bytes:
    return load_certificate(pair.chain).public_bytes(serialization.Encoding.DER)


def _usage(*, ca: bool, may_sign: bool) -> x509.KeyUsage:
    others = (
        "content_commitment key_encipherment data_encipherment key_agreement crl_sign "
        "encipher_only decipher_only"
    )
    flags = dict.fromkeys(others.split(), False)
    return x509.KeyUsage(digital_signature=may_sign, key_cert_sign=ca, **flags)


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, **options: Any
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands in memory, and exchange a byte each way, so that TLS 1.3 refusals come out.

    Raises:
        ssl.SSLError: either side refused.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, **options),
    )
    for step in (_shake, _send, _receive):
        waiting = list(ends)
        while waiting:
            waiting = [end for end in waiting if not step(end)]
    return ends


def _shake(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _send(end: ssl.SSLObject) -> bool:
    return end.write(b"!") == 1


def _receive(end: ssl.SSLObject) -> bool:
    return end.read(1) == b"!"
