"""Keys as PEM text: making them, asking for certificates with them, reading them back."""

from __future__ import annotations

from functools import lru_cache

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tport.engine.errors import ConfigError, InvalidRequest

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

MAX_CSR = 16 * 1024  # bytes; ours are under 500
_NOT_WHOLE = "a certificate is damaged, or of a kind that can't be read here"
RSA_BITS = 2048  # what applications' JWT libraries expect of RS256; NIST SP 800-131A


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate chain (PEM, leaf first) and its private key (PEM, not encrypted)."""

    chain: str
    key: str

    def __repr__(self) -> str:
        return "KeyPair(…)"  # a key must never reach a log by way of a traceback


def make_key() -> str:
    """Make a private key on P-256 and return it as PEM (PKCS #8)."""
    return private_pem(ec.generate_private_key(ec.SECP256R1()))


def make_rsa_key() -> str:
    """Make an RSA private key of RSA_BITS and return it as PEM (PKCS #8). Takes 50–500 ms."""
    return private_pem(rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS))


def private_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def public_pem(key: PublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


@lru_cache(maxsize=64)
def load_private_key(pem: str) -> PrivateKey:
    """Read an unencrypted private key. Remembered: checking an RSA key takes milliseconds.

    Raises:
        ConfigError: it is no such key; the message never holds the text.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        raise ConfigError(
            "the private key is encrypted", hint="decrypt it: openssl pkey -in old.pem -out new.pem"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError("this is no private key in PEM form") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ConfigError("the private key is neither ECDSA nor RSA")
    return key


@lru_cache(maxsize=256)
def load_certificate(pem: str) -> x509.Certificate:
    """Read one PEM certificate. Remembered: authorities are asked for at each handshake.

    Raises:
        ConfigError: it is none, or none that can be read whole.
    """
    return load_certificates(pem)[0]


def load_certificates(pem: str) -> list[x509.Certificate]:
    """Read the PEM certificates of a text, one at least.

    What is in them was only looked at from outside until it is asked for; so all of it is asked
    for here, and nobody later meets a key or an extension that can't be read.

    Raises:
        ConfigError: there is none, or one that can't be read whole.
    """
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except x509.InvalidVersion:
        raise ConfigError(_NOT_WHOLE) from None
    except ValueError:
        raise ConfigError("this is no certificate in PEM form") from None
    for certificate in found:
        try:
            certificate.public_key()
            _ = certificate.extensions, certificate.subject, certificate.issuer
        except (
            *(ValueError, UnsupportedAlgorithm),
            *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
        ):
            raise ConfigError(_NOT_WHOLE) from None
    return found


def make_csr(key: str) -> str:
    """Return a certificate request (PEM) for `key` (PEM).

    It says nothing but its public key: what the certificate will say, the issuer decides.
    """
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.sign(load_private_key(key), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def make_key_and_csr() -> tuple[str, str]:
    """Make a private key on P-256 and a certificate request for it: both PEM."""
    key = make_key()
    return key, make_csr(key)


def public_key_of_csr(csr: str) -> ec.EllipticCurvePublicKey:
    """Return the public key of a request (PEM) whose signature proves that its sender has the key.

    Nothing else in the request is looked at: no subject, no extension, no wish.

    Raises:
        InvalidRequest: no request, not signed by its own key, or not on P-256.
    """
    if len(csr) > MAX_CSR:
        raise InvalidRequest("the certificate request is too large")
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        proven = request.is_signature_valid
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidRequest("this is no certificate request in PEM form") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidRequest("the certificate request's key is not on P-256")
    if not proven:
        raise InvalidRequest("the certificate request is not signed by its own key")
    return key


def public_key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return SHA-256 hex of the key (SubjectPublicKeyInfo): renewal is idempotent by it."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return digest.finalize().hex()
