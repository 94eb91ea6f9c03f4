"""Passwords: which may be chosen, and how they are kept.

Rules: NIST SP 800-63B-4 (length, a blocklist, no composition rules); OWASP ASVS 5.0 6.2.
All here uses the CPU for a while (a hash about 50 ms and 46 MiB): call it from a thread.
"""

from __future__ import annotations

import os
import re
import unicodedata
from functools import lru_cache
from importlib import resources
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tport.engine.defaults import MAX_PASSWORD, MAX_PASSWORD_BYTES
from tport.engine.errors import InvalidRequest

MINIMUM: Final = 15  # characters while a password is all that proves a person; SP 800-63B-4
MINIMUM_WITH_SECOND_FACTOR: Final = 12

# OWASP ASVS 5.0, appendix C: Argon2id with t=1 needs at least 46 MiB.
_MEMORY: Final = 46 * 1024  # KiB
_ITERATIONS: Final = 1
_LANES: Final = 1
_PREFIX: Final = f"$argon2id$v=19$m={_MEMORY},t={_ITERATIONS},p={_LANES}$"

# The hash of a random password nobody knows: checked when there is no such user, so that
# the answer takes as long.
DUMMY_PHC: Final = f"{_PREFIX}DnOhO6h+/vIYQifY53hM3g$YkuxZ4BNE1Vazxy229jOhSjjdqZrWDKYRexs5JNy/WY"

_LEET = (  # "!" stands for a letter, or ends the word
    str.maketrans("@4301$57+8!", "aaeoissttbi"),
    str.maketrans("@4301$57+8", "aaeolssttb"),
)
_DECORATION = re.compile(r"[\W\d_]+")
_RUNS: Final = (
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1q2w3e4r5t6y7u8i9o0p",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "qazwsxedcrfvtgbyhnujmikolp",
)
_STEPS: Final = frozenset(
    line[at : at + 2] for run in _RUNS for line in (run, run[::-1]) for at in range(len(line) - 1)
)


def check_password_strength(password: str, *, user: str, cluster: str, minimum: int) -> None:
    """Return when `password` may be chosen.

    Length is what counts. Beyond that only what guessers try first is refused: common
    passwords, keyboard runs, one thing repeated, the names of the user and the cluster;
    each also with digits and signs around it or in place of letters.

    Args:
        minimum: characters (code points) it must have.

    Raises:
        InvalidRequest: in words for the person who chose it, without the password.
    """
    normal = _normal(password)
    if len(normal) < minimum:
        raise InvalidRequest(
            f"the password is too short: it needs {minimum} characters",
            hint="a few unrelated words make a good one",
        )
    folded = normal.casefold()
    if len(set(folded)) < 5:
        raise InvalidRequest("the password repeats the same few characters")
    if _is_run(folded):
        raise InvalidRequest("the password follows the keyboard or the alphabet")
    context = {"tport", *_words(user), *_words(cluster)}
    # With signs standing for letters, and without what is often hung on a word.
    for form in (folded, *(folded.translate(table) for table in _LEET)):
        core = _DECORATION.sub("", form)
        if {form, core, _unit(form), _unit(core)} & _common():
            raise InvalidRequest("the password is among those that are guessed first")
        if _made_of(core, context):
            raise InvalidRequest("the password is made of the user's or the cluster's name")


def hash_password(password: str) -> str:
    """Return a PHC string (Argon2id) of the password, NFKC-normalised, with a new salt.

    Raises:
        InvalidRequest: longer than 128 characters or 512 bytes.
    """
    normal = _normal(password)  # first: refused before it costs anything
    argon2id = Argon2id(
        salt=os.urandom(16),
        length=32,
        iterations=_ITERATIONS,
        lanes=_LANES,
        memory_cost=_MEMORY,
    )
    return argon2id.derive_phc_encoded(normal.encode())


def verify_password(phc: str, password: str) -> bool:
    """Tell whether `password` is the one. False for any hash that can't be read."""
    try:
        Argon2id.verify_phc_encoded(_normal(password).encode(), phc)
    except (InvalidKey, InvalidRequest, ValueError):
        return False
    return True


def needs_rehash(phc: str) -> bool:
    """Tell whether the hash was made with other parameters than today's."""
    return not phc.startswith(_PREFIX)


def _normal(password: str) -> str:
    """Return one spelling of what was typed: keyboards differ in how they send the same letter."""
    try:
        if len(password) <= MAX_PASSWORD and len(password.encode()) <= MAX_PASSWORD_BYTES:
            normal = unicodedata.normalize("NFKC", password)
            if len(normal) <= MAX_PASSWORD and len(normal.encode()) <= MAX_PASSWORD_BYTES:
                return normal
    except UnicodeEncodeError:
        raise InvalidRequest("the password holds half a character") from None
    raise InvalidRequest(f"the password is longer than {MAX_PASSWORD} characters")


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    text = resources.files(__package__).joinpath("common_passwords.txt").read_text("ascii")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


def _words(name: str) -> set[str]:
    """Return the parts of a name that are long enough to be recognised."""
    parts = re.split(r"[\W_]+", name.casefold())
    return {word for word in (*parts, "".join(parts)) if len(word) >= 3}


def _unit(text: str) -> str:
    """Return the shortest piece of which `text` is a repetition: "abab" → "ab"."""
    period = (text + text).find(text, 1)
    return text[:period] if period > 0 else text


def _made_of(text: str, words: set[str]) -> bool:
    """Tell whether `text` is names, common words and at most three other characters."""
    rest = text
    for word in sorted(words, key=len, reverse=True):
        rest = rest.replace(word, "")
    return rest != text and (len(rest) <= 3 or _unit(rest) in _common())


def _is_run(text: str) -> bool:
    """Tell whether four of five steps go to the next key or letter, forwards or back."""
    breaks = sum(text[at : at + 2] not in _STEPS for at in range(len(text) - 1))
    return breaks <= len(text) // 5
