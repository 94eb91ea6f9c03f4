import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.errors import ConfigError, InvalidRequest
from tport.engine.pki.keys import (
    KeyPair,
    PrivateKey,
    load_private_key,
    make_csr,
    make_key,
    make_key_and_csr,
    public_key_id,
    public_key_of_csr,
)


def csr_of(key: PrivateKey) -> str:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_a_request_gives_the_public_key_of_its_maker() -> None:
    key, csr = make_key_and_csr()

    assert public_key_of_csr(csr) == load_private_key(key).public_key()
    assert public_key_id(public_key_of_csr(csr)) == public_key_id(public_key_of_csr(make_csr(key)))


def test_a_request_signed_by_another_key_is_refused() -> None:
    """Somebody who doesn't have the key can't have a certificate made for it."""
    der = x509.load_pem_x509_csr(make_csr(make_key()).encode()).public_bytes(
        serialization.Encoding.DER
    )
    broken = x509.load_der_x509_csr(der[:-4] + bytes(4)).public_bytes(serialization.Encoding.PEM)

    with pytest.raises(InvalidRequest):
        public_key_of_csr(broken.decode())


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
)
def test_a_request_for_a_key_that_is_not_on_p256_is_refused(key: PrivateKey) -> None:
    with pytest.raises(InvalidRequest, match="P-256"):
        public_key_of_csr(csr_of(key))


@given(st.text() | st.text(max_size=80).map(lambda s: f"-----BEGIN CERTIFICATE REQUEST-----\n{s}"))
def test_whatever_else_comes_as_a_request_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        public_key_of_csr(text)


def test_a_huge_request_is_refused_unread() -> None:
    with pytest.raises(InvalidRequest, match="too large"):
        public_key_of_csr("x" * 1_000_000)


def test_an_encrypted_key_is_named_as_such() -> None:
    pem = load_private_key(make_key()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )

    with pytest.raises(ConfigError, match="encrypted"):
        load_private_key(pem.decode())


def test_a_key_that_no_browser_understands_is_refused() -> None:
    """An Ed25519 key loads, and no certificate for it would be taken."""
    text = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

    with pytest.raises(ConfigError, match="neither ECDSA nor RSA"):
        load_private_key(text.decode())


def test_a_pair_does_not_show_its_key() -> None:
    key = make_key()

    assert key not in repr(KeyPair(chain="", key=key))
    assert "PRIVATE" not in f"{KeyPair(chain='', key=key)}"
