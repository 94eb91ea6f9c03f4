"""Who asks for the next certificate has the key of this one."""

from __future__ import annotations

from base64 import b64encode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.fakes import START
from tport.engine.errors import AccessDenied, ConfigError
from tport.engine.pki.keys import make_csr, make_key, private_pem
from tport.engine.pki.renewal import check_renewal, prove_renewal


def certificate_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name.from_rfc4514_string("CN=h1")
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(START)
        .not_valid_after(START.replace(year=START.year + 1))
        .sign(key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_who_has_the_key_proves_it(key: ec.EllipticCurvePrivateKey) -> None:
    csr = make_csr(make_key())

    check_renewal(certificate_of(key), csr, prove_renewal(private_pem(key), csr))


def test_a_proof_is_for_one_request_and_by_one_key(key: ec.EllipticCurvePrivateKey) -> None:
    """AG-15: what was overheard serves no other key, and no other host."""
    mine, yours = make_csr(make_key()), make_csr(make_key())
    proof = prove_renewal(private_pem(key), mine)
    other = ec.generate_private_key(ec.SECP256R1())

    for certificate, csr in ((key, yours), (other, mine)):
        with pytest.raises(AccessDenied):
            check_renewal(certificate_of(certificate), csr, proof)


@pytest.mark.parametrize("proof", ["", "no base64!", b64encode(b"no signature").decode()])
def test_whatever_else_comes_as_a_proof_is_refused(
    key: ec.EllipticCurvePrivateKey, proof: str
) -> None:
    with pytest.raises(AccessDenied):
        check_renewal(certificate_of(key), make_csr(make_key()), proof)


def test_a_key_of_another_kind_proves_nothing() -> None:
    """Hosts' keys are ECDSA: neither is a proof made with another, nor one believed."""
    other = rsa.generate_private_key(65537, 2048)
    csr = make_csr(make_key())

    with pytest.raises(ConfigError, match="a host's key is ECDSA"):
        prove_renewal(private_pem(other), csr)
    with pytest.raises(AccessDenied, match="not a host's"):
        check_renewal(certificate_of(other), csr, b64encode(b"x").decode())
