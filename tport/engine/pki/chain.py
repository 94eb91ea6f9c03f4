"""What a certificate chain says, as people read it, and what is wrong with it before anybody sees it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tport.engine.pki.keys import load_certificate

_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def names_of(pem: str) -> tuple[str, ...]:
    """Return the hosts that a chain's leaf is good for, in their normal form; `*.` may lead."""
    leaf = load_certificate(pem)
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = [name.lower().removesuffix(".") for name in names.get_values_for_type(x509.DNSName)]
    for address in names.get_values_for_type(x509.IPAddress):
        hosts.append(f"[{address}]" if address.version == 6 else str(address))
    return tuple(dict.fromkeys(hosts))


def issuer_of(pem: str) -> str:
    """Return who signed a chain's leaf, in a few words."""
    return _called(load_certificate(pem).issuer)


def key_of(pem: str) -> str:
    """Return the kind of a leaf's key: "ECDSA P-256", "RSA 2048"."""
    key = load_certificate(pem).public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {_CURVES.get(key.curve.name, key.curve.name)}"
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else "another kind of key"


def renewal_of(pem: str) -> datetime:
    """Return when two thirds of a certificate's life are over."""
    leaf = load_certificate(pem)
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return leaf.not_valid_before_utc + life * 2 / 3


def _called(name: x509.Name) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(kind):
            return str(attribute.value)
    return name.rfc4514_string() or "nobody named"
