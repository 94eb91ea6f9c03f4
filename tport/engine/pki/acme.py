"""Keys and certificates for ACME: the account's key, requests, and the certificate of a challenge."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from jwt.utils import base64url_encode

from tport.engine.errors import ConfigError
from tport.engine.pki.keys import KeyPair, load_certificate, load_private_key, private_pem

# id-pe-acmeIdentifier, RFC 8737 §6.1. The older OID of drafts is one that CAs refuse.
ACME_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_CHALLENGE_LIFE: Final = timedelta(days=1)  # the CA doesn't look at it


class AccountKey:
    """The private key of an account, on P-256, as JWS uses it."""

    def __init__(self, pem: str) -> None:
        """Raises ConfigError: it is no key on P-256."""
        key = load_private_key(pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ConfigError("the ACME account's key is not on P-256")
        self._key = key

    @property
    def jwk(self) -> Mapping[str, str]:
        numbers = self._key.public_key().public_numbers()
        return {
            "crv": "P-256",
            "kty": "EC",
            "x": encode64(numbers.x.to_bytes(32, "big")),
            "y": encode64(numbers.y.to_bytes(32, "big")),
        }

    def sign(self, data: bytes) -> bytes:
        """Return an ES256 signature as JWS has it (RFC 7518 §3.4): r and s, 32 bytes each."""
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def make_names_csr(key: str, names: Sequence[str]) -> bytes:
    """Return a certificate request (DER) by `key` (PEM) for these DNS names, and nothing else."""
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.add_extension(alternatives, critical=False).sign(
        load_private_key(key), hashes.SHA256()
    )
    return signed.public_bytes(serialization.Encoding.DER)


def challenge_pair(name: str, key_authorization: str, now: datetime) -> KeyPair:
    """Make the certificate that a CA is shown for tls-alpn-01 (RFC 8737 §3), and its key.

    It is self-signed, for this one name, and says the digest of the key authorization in a
    critical extension: to any client but the CA it is worthless.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    digest = hashlib.sha256(key_authorization.encode()).digest()
    octets = b"\x04\x20" + digest  # DER: an OCTET STRING of 32 bytes
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _CHALLENGE_LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, octets), critical=True)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(
        chain=certificate.public_bytes(serialization.Encoding.PEM).decode(), key=private_pem(key)
    )


def dns_value(key_authorization: str) -> str:
    """Return what the TXT record of dns-01 says, RFC 8555 §8.4."""
    return encode64(hashlib.sha256(key_authorization.encode()).digest())


def renewal_id(chain: str) -> str:
    """Return a certificate's name in RFC 9773 §4.1; "" when it doesn't say its issuer's key."""
    leaf = load_certificate(chain)
    try:
        found = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    if found.key_identifier is None:
        return ""
    serial = leaf.serial_number
    octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big")  # as in DER: never negative
    return f"{encode64(found.key_identifier)}.{encode64(octets)}"


def check_issued(pair: KeyPair, names: Sequence[str], now: datetime) -> x509.Certificate:
    """Return the leaf of what a CA issued, if it is what was ordered.

    Raises:
        ConfigError: it can't be read, is another key's, lacks a name, or is not valid now.
    """
    try:
        leaf = load_certificate(pair.chain)
    except ConfigError as problem:
        raise ConfigError(f"the CA's certificate can't be used: {problem}") from None
    if leaf.public_key() != load_private_key(pair.key).public_key():
        raise ConfigError("the CA's certificate is for another key than we sent")
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        there = {name.lower() for name in found.get_values_for_type(x509.DNSName)}
    except (x509.ExtensionNotFound, ValueError):
        there = set()
    if missing := [name for name in names if name not in there]:
        raise ConfigError(f"the CA's certificate is not for {', '.join(missing)}")
    if leaf.not_valid_after_utc <= now:
        raise ConfigError(
            "the CA's certificate has expired already: is this machine's clock right?"
        )
    return leaf


def encode64(data: bytes) -> str:
    """Return base64url without padding, RFC 7515 §2."""
    return base64url_encode(data).decode()
