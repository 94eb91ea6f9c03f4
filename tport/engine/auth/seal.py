"""What auth must be able to read again, sealed for its database: AES-256-GCM under a key beside it.

Who gets the database alone, from a backup or a disk, has no second factor of anybody.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tport.engine.errors import Unavailable

KEY_BYTES: Final = 32
_NONCE: Final = 12  # bytes, AES-GCM's


class Seal:
    def __init__(self, key: bytes) -> None:
        """`key`: KEY_BYTES random bytes that are kept apart from what is sealed."""
        assert len(key) == KEY_BYTES
        self._cipher = AESGCM(key)

    def close(self, secret: bytes, context: str) -> str:
        """Seal `secret` for one place: opened with another `context` it is nothing."""
        nonce = os.urandom(_NONCE)
        return b64encode(nonce + self._cipher.encrypt(nonce, secret, context.encode())).decode()

    def open(self, sealed: str, context: str) -> bytes:
        """Return the secret.

        Raises:
            Unavailable: it was sealed with another key, for another place, or is broken.
        """
        try:
            raw = b64decode(sealed, validate=True)
            return self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], context.encode())
        except (InvalidTag, ValueError):
            raise Unavailable(
                "a second factor can't be read: it was sealed with another key",
                hint="restore factors.key in auth's folder from the backup that the database"
                " came from; or give the person a new start: tport users reset NAME",
            ) from None
