"""Text without what may be a secret in it. Pure.

Nothing here is meant to be needed: no part of a bundle is made of secrets. A log may hold what others
wrote into it, and a person may have put a secret where none belongs; so what looks like one goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Final

GONE: Final = "[redacted]"
_SHORTEST: Final = 6  # characters of a known secret; a shorter one would redact words
# What stands before such a word in a name is none of the search's business: strangers write some of
# what is in a log, and no line is to make it long.
_NAMED: Final = (
    r"(?i)((?:password|passwd|passphrase|secret|token|hmac|api[_-]?key)[\w-]{0,64}\"?\s*[:=]\s*"
)
_PATTERNS: Final = (
    (re.compile(r"-----BEGIN [^-]*-----.*?(-----END [^-]*-----|\Z)", re.DOTALL), GONE),
    (re.compile(r"(://)[^/@\s]+@"), rf"\1{GONE}@"),  # user and password in a URL
    (re.compile(r"\?[^\s\"'<>]+"), f"?{GONE}"),  # a query
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), rf"\1 {GONE}"),
    # Of several cookies the first is as secret as the last.
    (
        re.compile(r"(?i)((?:authorization|cookie)[\w-]{0,64}\"?\s*[:=])[^\r\n]*"),
        rf"\1 {GONE}",
    ),
    # In quotes a secret may have several words.
    (
        re.compile(rf"{_NAMED})(?:\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?)"),
        rf'\1"{GONE}"',
    ),
    (re.compile(rf"{_NAMED}\"?)[^\s\",;]+"), rf"\1{GONE}"),
    # Our own are 32 and more characters of this kind; ids of requests and machines are not.
    (re.compile(r"\btport_[A-Za-z0-9_-]{20,}"), GONE),
    (re.compile(r"(?<![\w-])[A-Za-z0-9_+/-]{40,}={0,2}(?![\w-])"), GONE),
    (re.compile(r"\b[0-9a-fA-F]{32,}\b"), GONE),
)


def without_known(text: str, secrets: Collection[str]) -> str:
    """Return text without these very secrets, longest first; what is JSON has them escaped."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, GONE).replace(json.dumps(secret)[1:-1], GONE)
    return text


def redacted(text: str, secrets: Collection[str] = ()) -> str:
    """Return text without these secrets and without whatever looks like one."""
    text = without_known(text, secrets)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
