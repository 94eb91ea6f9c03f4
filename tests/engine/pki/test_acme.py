"""Keys, requests and certificates for ACME, against what the standards say of them."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.acme_ca import FakeCa, unpadded
from tport.engine.errors import ConfigError
from tport.engine.pki.acme import (
    AccountKey,
    challenge_pair,
    check_issued,
    dns_value,
    make_names_csr,
    renewal_id,
)
from tport.engine.pki.keys import (
    KeyPair,
    load_certificate,
    load_private_key,
    make_key,
    make_rsa_key,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def issued(key: str, *names: str) -> KeyPair:
    chain = FakeCa(lambda: NOW).issue(load_private_key(key).public_key(), list(names))
    return KeyPair(chain=chain, key=key)


def test_a_challenge_certificate_is_as_the_standard_wants_it() -> None:
    pair = challenge_pair("app.test", "token.thumb", NOW)

    leaf = load_certificate(pair.chain)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["app.test"]
    [identifier] = [e for e in leaf.extensions if e.oid.dotted_string == "1.3.6.1.5.5.7.1.31"]
    assert identifier.critical
    assert isinstance(identifier.value, x509.UnrecognizedExtension)
    digest = hashlib.sha256(b"token.thumb").digest()
    assert identifier.value.value == bytes.fromhex("0420") + digest


def test_a_txt_record_is_the_digest() -> None:
    assert unpadded(dns_value("token.thumb")) == hashlib.sha256(b"token.thumb").digest()
    assert len(urlsafe_b64decode(dns_value("a") + "=")) == 32


def test_a_request_is_for_its_names_and_nothing_else() -> None:
    request = x509.load_der_x509_csr(make_names_csr(make_key(), ["a.test", "*.a.test"]))

    assert request.is_signature_valid
    assert len(request.subject) == 0
    [extension] = request.extensions
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    assert extension.value.get_values_for_type(x509.DNSName) == ["a.test", "*.a.test"]


def test_an_account_needs_a_key_on_p_256() -> None:
    with pytest.raises(ConfigError, match="P-256"):
        AccountKey(make_rsa_key())


def test_what_a_ca_issued_is_taken_only_if_it_is_what_was_ordered() -> None:
    key = make_key()
    pair = issued(key, "a.test")

    assert check_issued(pair, ["a.test"], NOW).serial_number
    with pytest.raises(ConfigError, match=r"not for b\.test"):
        check_issued(pair, ["a.test", "b.test"], NOW)
    with pytest.raises(ConfigError, match="another key"):
        check_issued(KeyPair(chain=pair.chain, key=make_key()), ["a.test"], NOW)
    with pytest.raises(ConfigError, match="clock"):
        check_issued(pair, ["a.test"], NOW + timedelta(days=90))


def test_a_certificate_is_named_by_its_issuers_key_and_its_serial_as_in_der() -> None:
    """RFC 9773 §4.1 names octets as DER has them: with a leading zero before a high bit."""
    leaf = load_certificate(issued(make_key(), "a.test").chain)
    authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier is not None

    chain = leaf.public_bytes(serialization.Encoding.PEM).decode()
    key, _, serial = renewal_id(chain).partition(".")

    assert unpadded(key) == authority.key_identifier
    octets = unpadded(serial)
    assert int.from_bytes(octets, signed=True) == leaf.serial_number
    assert octets[0] != 0 or octets[1] >= 0x80


def test_a_certificate_that_says_no_issuers_key_has_no_name() -> None:
    assert renewal_id(challenge_pair("a.test", "x", NOW).chain) == ""


def test_a_certificate_that_names_its_issuer_but_not_the_key_has_no_name() -> None:
    """RFC 5280 §4.2.1.1 lets the key's id be absent."""
    issuer = x509.AuthorityKeyIdentifier(
        None, [x509.DirectoryName(x509.Name.from_rfc4514_string("CN=a CA"))], 1
    )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=a.test")
    leaf = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(issuer, critical=False)
        .sign(key, hashes.SHA256())
    )

    assert renewal_id(leaf.public_bytes(serialization.Encoding.PEM).decode()) == ""
