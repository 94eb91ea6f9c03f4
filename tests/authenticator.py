"""A passkey in software, with nothing of ours or of fido2's in it: honest, or lying as it is told."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40  # flags, WebAuthn §6.1
ES256 = -7


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


@dataclass
class Authenticator:
    """One credential on one device. What a test changes is what it lies about."""

    origin: str
    rp_id: str
    flags: int = PRESENT | VERIFIED
    count: int = 0  # 0: it keeps no counter
    algorithm: int = ES256
    cross_origin: bool = False
    id: bytes = field(default_factory=lambda: os.urandom(32))
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def create(self, options: str) -> str:
        """Answer creation options as `navigator.credentials.create` does."""
        client = self._client("webauthn.create", json.loads(options)["challenge"])
        numbers = self.key.public_key().public_numbers()
        cose = _cbor(
            {
                1: 2,
                3: self.algorithm,
                -1: 1,
                -2: numbers.x.to_bytes(32, "big"),
                -3: numbers.y.to_bytes(32, "big"),
            }
        )
        data = self._data(self.flags | ATTESTED)
        data += bytes(16) + struct.pack(">H", len(self.id)) + self.id + cose
        attestation = _cbor({"fmt": "none", "attStmt": {}, "authData": data})
        return self._answer({"clientDataJSON": client, "attestationObject": attestation})

    def get(self, options: str, *, challenge: str = "") -> str:
        """Answer request options as `navigator.credentials.get` does."""
        client = self._client("webauthn.get", challenge or json.loads(options)["challenge"])
        data = self._data(self.flags)
        signed = data + hashlib.sha256(client).digest()
        signature = self.key.sign(signed, ec.ECDSA(hashes.SHA256()))
        return self._answer(
            {"clientDataJSON": client, "authenticatorData": data, "signature": signature}
        )

    def _client(self, type_: str, challenge: str) -> bytes:
        return json.dumps(
            {
                "type": type_,
                "challenge": challenge,
                "origin": self.origin,
                "crossOrigin": self.cross_origin,
            }
        ).encode()

    def _data(self, flags: int) -> bytes:
        host = hashlib.sha256(self.rp_id.encode()).digest()
        return host + struct.pack(">BI", flags, self.count)

    def _answer(self, response: dict[str, bytes]) -> str:
        return json.dumps(
            {
                "id": b64(self.id),
                "rawId": b64(self.id),
                "type": "public-key",
                "response": {name: b64(value) for name, value in response.items()},
            }
        )


def _cbor(value: Any) -> bytes:
    """Encode what an authenticator sends: RFC 8949, definite lengths."""
    match value:
        case int() if value >= 0:
            return _head(0, value)
        case int():
            return _head(1, -1 - value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case dict():
            items = b"".join(_cbor(key) + _cbor(item) for key, item in value.items())
            return _head(5, len(value)) + items
    raise TypeError(value)


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    if number < 256:
        return bytes([major << 5 | 24, number])
    return bytes([major << 5 | 25]) + struct.pack(">H", number)
