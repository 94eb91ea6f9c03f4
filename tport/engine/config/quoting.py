"""Text as a YAML scalar on one line: plain where every reader of YAML takes it for text. Pure."""

from __future__ import annotations

import re
from typing import Final

# Plain in block and flow style alike. A first digit or dot might be a number or a time, and
# what follows a colon or a space might begin a map or a comment.
_WORD = r"[A-Za-z0-9/._~@%+=?&$()'-](?:[A-Za-z0-9/._~@%+=?&$()';:-]*[A-Za-z0-9/._~@%+=?&$()';-])?"
_PLAIN = re.compile(rf"(?=[A-Za-z/]){_WORD}(?: {_WORD})*")
# What YAML 1.1 and 1.2 between them take for something else than text.
_WORDS: Final = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))

_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def scalar(text: str) -> str:
    """Return `text` as a person would write it: plain if it can be, else in double quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return quoted(text)


def quoted(text: str) -> str:
    """Return `text` in double quotes. Half a character (a lone surrogate) has no YAML."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )
