"""What is said of a certificate chain before any browser sees it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tport.engine.errors import ConfigError
from tport.engine.pki.chain import (
    issuer_of,
    key_of,
    names_of,
    put_in_order,
    renewal_of,
    warnings_of,
)
from tport.engine.pki.keys import KeyPair, load_certificate, make_key, private_pem

NOW = datetime.now(UTC)
ROOT = trustme.CA(organization_name="Root")
BETWEEN = ROOT.create_child_ca()


def text(*blobs: trustme.Blob) -> str:
    return "".join(blob.bytes().decode() for blob in blobs)


OF_ROOT = {tuple(str(part.value) for part in load_certificate(text(ROOT.cert_pem)).subject)}


def pair_of(leaf: trustme.LeafCert, *others: trustme.Blob) -> KeyPair:
    """The leaf alone, with these behind it."""
    return KeyPair(key=text(leaf.private_key_pem), chain=text(leaf.cert_chain_pems[0], *others))


def test_a_chain_as_it_should_be_stays_as_it_is() -> None:
    leaf = BETWEEN.issue_cert("a.test")
    pair = pair_of(leaf, BETWEEN.cert_pem)

    assert put_in_order(pair) == (pair, "")
    assert warnings_of(pair.chain, NOW, OF_ROOT) == ()


def test_a_chain_out_of_order_is_put_in_order_and_that_is_said() -> None:
    leaf = BETWEEN.issue_cert("a.test")
    right = pair_of(leaf, BETWEEN.cert_pem, ROOT.cert_pem)
    wrong = KeyPair(
        key=right.key, chain=text(ROOT.cert_pem, leaf.cert_chain_pems[0], BETWEEN.cert_pem)
    )

    pair, said = put_in_order(wrong)

    assert (pair.key, pair.chain.split()) == (right.key, right.chain.split())
    assert "out of order" in said


def test_what_is_not_of_the_chain_is_left_out() -> None:
    leaf = BETWEEN.issue_cert("a.test")
    pair, said = put_in_order(pair_of(leaf, trustme.CA().cert_pem, BETWEEN.cert_pem))

    assert pair.chain.split() == pair_of(leaf, BETWEEN.cert_pem).chain.split()
    assert "not of its chain" in said


def test_a_missing_intermediate_is_named() -> None:
    """Known by nobody here: then it may be one. A root that this machine knows is no matter."""
    leaf = BETWEEN.issue_cert("a.test")

    [said] = warnings_of(pair_of(leaf).chain, NOW, OF_ROOT)

    assert "trustme" in said
    assert "fullchain.pem" in said
    assert warnings_of(pair_of(ROOT.issue_cert("a.test")).chain, NOW, OF_ROOT) == ()


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (timedelta(days=-3), "not valid before"),
        (timedelta(0), ""),
        (timedelta(days=3), "expired at"),
    ],
)
def test_outside_of_its_time_a_certificate_is_told(at: timedelta, said: str) -> None:
    leaf = ROOT.issue_cert("a.test", not_before=NOW - timedelta(1), not_after=NOW + timedelta(1))

    warnings = warnings_of(pair_of(leaf).chain, NOW + at, OF_ROOT)

    assert [said in warning for warning in warnings] == ([True] if said else [])


def test_key_and_certificate_must_match() -> None:
    pair = KeyPair(key=make_key(), chain=pair_of(ROOT.issue_cert("a.test")).chain)
    with pytest.raises(ConfigError, match="don't belong together"):
        put_in_order(pair)


@pytest.mark.parametrize(
    ("curve", "names", "said"),
    [
        (ec.SECP521R1(), ["a.test"], "browsers take no certificate on secp521r1"),
        (ec.SECP256R1(), [], "names no host"),
    ],
)
def test_what_no_browser_takes_is_refused(
    curve: ec.EllipticCurve, names: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        put_in_order(self_signed(curve, names))


def self_signed(curve: ec.EllipticCurve, names: list[str], called: str = "CN=a.test") -> KeyPair:
    key = ec.generate_private_key(curve)
    name = x509.Name.from_rfc4514_string(called)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(1))
    )
    if names:
        found = [x509.DNSName(each) for each in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
    signed = builder.sign(key, hashes.SHA256())
    chain = signed.public_bytes(serialization.Encoding.PEM).decode()
    return KeyPair(key=private_pem(key), chain=chain)


def test_one_that_signed_itself_is_taken_as_it_is() -> None:
    pair = self_signed(ec.SECP384R1(), ["a.test"])

    assert put_in_order(pair) == (pair, "")
    assert warnings_of(pair.chain, NOW, ()) == ()
    assert (issuer_of(pair.chain), key_of(pair.chain)) == ("a.test", "ECDSA P-384")
    assert renewal_of(pair.chain) - NOW.replace(microsecond=0) == timedelta(hours=16)


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("CN=the leaf,O=A company", "the leaf"),
        ("O=A company,C=DE", "A company"),
        ("OU=A part,C=DE", "OU=A part,C=DE"),
        ("", "nobody named"),
    ],
)
def test_an_issuer_is_called_by_what_it_has(name: str, called: str) -> None:
    """As a warning about a certificate names it: never as nothing."""
    assert issuer_of(self_signed(ec.SECP256R1(), ["a.test"], name).chain) == called


def test_names_are_read_in_the_form_in_which_hosts_are_compared() -> None:
    """TLS-11: case and the root's dot are no difference; addresses are as in a Host header."""
    chain = self_signed(ec.SECP256R1(), ["A.Test", "a.test.", "*.B.test"]).chain
    assert names_of(chain) == ("a.test", "*.b.test")
    leaf = ROOT.issue_cert("127.0.0.1", "::1")
    assert set(names_of(pair_of(leaf).chain)) == {"127.0.0.1", "[::1]"}
