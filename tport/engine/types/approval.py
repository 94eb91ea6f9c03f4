"""A machine that asks to join: the code by which a person recognises it, and the word by which it knows who let it in."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Final, Literal

import msgspec

from tport.engine.errors import InvalidRequest

JoinState = Literal["pending", "approved", "denied"]

# Crockford's base 32: no letter that is read as another, https://www.crockford.com/base32.html
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS: Final = str.maketrans({"O": "0", "I": "1", "L": "1", " ": None, "-": None})
_CODE: Final = re.compile(f"[{_ALPHABET}]{{12}}")
_CODE_BITS: Final = 60  # nobody finds another key with the same code while a request waits
_WORD: Final = re.compile(f"[{_ALPHABET}]{{6}}")
_WORD_BITS: Final = 30  # in three tries nobody meets it by chance


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that wants to offer one application.

    Attributes:
        id: a random word that only the machine has; by it it asks for the answer.
        key_id: SHA-256 hex of its public key.
        csr: PEM.
        code: `join_code` of its key and this cluster's authorities.
        title: of the application's page, in its own words.
        remote: the machine's address, as auth sees it.
        host_id: that it becomes.
        word: `join_word`, once it was let in; told, never stored.
    """

    id: str
    key_id: str
    csr: str
    code: str
    hostname: str
    app: str
    uri: str
    title: str
    remote: str
    created: datetime
    host_id: str
    state: JoinState = "pending"
    by: str = ""
    word: str = ""


def join_code(key_id: str, pin: str) -> str:
    """Return the code that the machine shows: of its key and the authorities it was shown.

    Whoever sits between shows the machine authorities of their own, so that its code is none
    that this cluster knows. They can let the machine in themselves, though, whatever its code:
    see `join_word`.

    Args:
        key_id: SHA-256 hex of the public key.
        pin: of the cluster's authorities, 64 hex digits.
    """
    letters = _letters(key_id, pin, 0, _CODE_BITS)
    return "-".join((letters[:4], letters[4:8], letters[8:]))


def join_word(key_id: str, pin: str) -> str:
    """Return the word that the cluster shows once it let the machine in, and the machine asks for.

    It proves to the machine what the code proves to the cluster: that a person saw the cluster
    of these very authorities let it in, and not somebody who sits between.

    Args:
        key_id, pin: as of `join_code`.
    """
    return _letters(key_id, pin, _CODE_BITS, _WORD_BITS)


def _letters(key_id: str, pin: str, start: int, bits: int) -> str:
    digest = hashlib.sha256(b"tport join\0" + bytes.fromhex(key_id) + bytes.fromhex(pin)).digest()
    number = int.from_bytes(digest, "big") >> (len(digest) * 8 - start - bits)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(bits - 5, -1, -5))


def read_code(text: str) -> str:
    """Return a code as `join_code` writes it, from how people type it.

    Raises:
        InvalidRequest: it is none.
    """
    letters = _read(text)
    if not _CODE.fullmatch(letters):
        raise InvalidRequest(
            "this is no code; it has twelve letters and digits, as in 3K7M-QZ0A-9XWB"
        )
    return "-".join((letters[:4], letters[4:8], letters[8:]))


def read_word(text: str) -> str:
    """Return a word as `join_word` writes it, from how people type it.

    Raises:
        InvalidRequest: it is none.
    """
    letters = _read(text)
    if not _WORD.fullmatch(letters):
        raise InvalidRequest("this is no such word; it has six letters and digits, as in K7Q4XM")
    return letters


def _read(text: str) -> str:
    return text.strip().upper().translate(_READ_AS)
