"""What a certificate chain says, as people read it, and what is wrong with it before anybody sees it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tport.engine.errors import ConfigError
from tport.engine.pki.keys import (
    KeyPair,
    load_certificate,
    load_certificates,
    load_private_key,
)

_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384"}


def put_in_order(pair: KeyPair) -> tuple[KeyPair, str]:
    """Return a pair whose chain begins with the key's certificate, each signed by the next.

    Also a sentence about what had to be done to it; "": nothing. Servers that send a chain in
    another order, or with strangers in it, work with some browsers only.

    Raises:
        ConfigError: no certificate, no key, none that is the key's, or none that browsers take.
    """
    found = load_certificates(pair.chain)
    key = load_private_key(pair.key).public_key()
    leaf = next((each for each in found if each.public_key() == key), None)
    if leaf is None:
        raise ConfigError("the certificate and the private key don't belong together")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        raise ConfigError(
            f"browsers take no certificate on {key.curve.name}", hint="make one on P-256, or RSA"
        )
    chain = [leaf]
    while (issuer := _issuer(chain[-1], found)) is not None and issuer not in chain:
        chain.append(issuer)
    if not names_of(pem := _pem(chain)):
        raise ConfigError(
            "the certificate names no host, so browsers take it for none",
            hint="names belong into its subjectAltName",
        )
    if chain == list(found):
        return pair, ""
    said = (
        "it holds certificates that are not of its chain, which are left out"
        if len(chain) < len(set(found))
        else "its chain is out of order, and is put in order"
    )
    return KeyPair(
        key=pair.key, chain=pem
    ), f"{said}: the leaf first, then who signed it, and so on"


def warnings_of(
    pem: str, now: datetime, authorities: Collection[tuple[str, ...]]
) -> tuple[str, ...]:
    """Return what browsers will not like of a chain in order, in sentences without full stops.

    Args:
        authorities: those that this machine trusts (`contexts.system_authorities`).
    """
    chain, said = load_certificates(pem), []
    leaf, last = chain[0], chain[-1]
    if now >= leaf.not_valid_after_utc:
        said.append(f"it expired at {leaf.not_valid_after_utc:%F %R} UTC: renew it")
    if now < leaf.not_valid_before_utc:
        said.append(
            f"it is not valid before {leaf.not_valid_before_utc:%F %R} UTC: is the clock right?"
        )
    if last.issuer != last.subject and _values(last.issuer) not in authorities:
        said.append(
            f"{_called(last.issuer)!r}, who signed {'it' if last is leaf else 'the last of its chain'},"
            " is neither in the file nor known to this machine: if it is an intermediate, add its"
            " certificate (certbot: fullchain.pem, not cert.pem)"
        )
    return tuple(said)


def _issuer(
    certificate: x509.Certificate, among: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    for each in among:
        try:
            certificate.verify_directly_issued_by(each)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return each
    return None


def _pem(chain: Sequence[x509.Certificate]) -> str:
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in chain)


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


def _values(name: x509.Name) -> tuple[str, ...]:
    return tuple(str(attribute.value) for attribute in name)


def _called(name: x509.Name) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(kind):
            return str(attribute.value)
    return name.rfc4514_string() or "nobody named"
