"""The proof with which a host asks for its next certificate: its last key signs the request."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tport.engine.errors import AccessDenied, ConfigError
from tport.engine.pki.keys import load_private_key

_PURPOSE = b"tport renewal 1\0"  # what this key signs here is worth nothing anywhere else


def prove_renewal(key: str, csr: str) -> str:
    """Return the proof for `AuthAPI.renew`: base64 of a signature over the request.

    Args:
        key: the private key (PEM) of the certificate that ends.
        csr: the request (PEM) for the next key.

    Raises:
        ConfigError: the key is not ECDSA; hosts' keys are.
    """
    private = load_private_key(key)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ConfigError("a host's key is ECDSA")
    return b64encode(private.sign(_PURPOSE + csr.encode(), ec.ECDSA(hashes.SHA256()))).decode()


def check_renewal(certificate: x509.Certificate, csr: str, proof: str) -> None:
    """Return when whoever sent `csr` has the key of `certificate`.

    Raises:
        AccessDenied: the proof is no such signature.
    """
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise AccessDenied("the certificate's key is not a host's")
    try:
        key.verify(
            b64decode(proof, validate=True), _PURPOSE + csr.encode(), ec.ECDSA(hashes.SHA256())
        )
    except (InvalidSignature, binascii.Error, ValueError):
        raise AccessDenied(
            "the proof was not made with this certificate's key",
            hint="is the data directory whole? a copy of half of it looks like this",
        ) from None
