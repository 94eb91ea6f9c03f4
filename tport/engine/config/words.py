"""Single values of the file and the flags: text in, value out, or what is wrong with it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Final

from tport.engine.defaults import MAX_WORKERS
from tport.engine.errors import InvalidRequest
from tport.engine.types.preference import MAX_IDLE, MIN_IDLE
from tport.engine.types.token import split_join_token

MAX_COUNT: Final = 1_000_000  # of connections: no process holds as many

# The words of Teleport's files, and of YAML 1.1; quoted or not.
_YES = ("yes", "on", "true")
_NO = ("no", "off", "false")

_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_DAYS = re.compile(r"([1-9][0-9]{0,4})d")

_PIN = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_STATIC_SECRET = re.compile(r"[A-Za-z0-9_-]{32,128}")
_EMAIL = re.compile(r"[!-~]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_CLUSTER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")

# What a Teleport token may be for; tport gives machines the role of an agent only.
_OTHER_TOKEN_ROLES = frozenset(
    {
        "auth",
        "bot",
        "db",
        "discovery",
        "integration",
        "kube",
        "mdm",
        "node",
        "okta",
        "proxy",
        "trusted_cluster",
        "windowsdesktop",
    }
)


def parse_bool(text: str) -> bool:
    word = text.lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise InvalidRequest(f"expected yes or no, found {shown(text)}")


def parse_workers(text: str) -> int:
    """Read how many processes are meant; 0: `auto`, as many as there are CPUs to use."""
    if text.lower() == "auto":
        return 0
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:5]) <= MAX_WORKERS):
        raise InvalidRequest(f"expected 1 to {MAX_WORKERS}, or auto, found {shown(text)}")
    return int(text)


def parse_count(text: str) -> int:
    """Read how many of something there may be: at least one."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:8]) <= MAX_COUNT):
        raise InvalidRequest(f"expected 1 to {MAX_COUNT}, found {shown(text)}")
    return int(text)


def parse_idle_timeout(text: str) -> float:
    """Read for how long a connection is kept, in seconds: without any, browsers would dial for each request."""
    seconds = parse_seconds(text)
    if not 1 <= seconds <= 3600:
        raise InvalidRequest(f"expected 1s to 1h, found {shown(text)}")
    return seconds


def parse_idle(text: str) -> float:
    """Read how long somebody may do nothing, in seconds; 0: for ever.

    What is done at applications is noticed every few minutes, so that less makes no sense.
    """
    seconds = parse_seconds(text)
    if seconds and not MIN_IDLE <= seconds <= MAX_IDLE:
        raise InvalidRequest(f"expected 10m to 8760h, or 0s for never, found {shown(text)}")
    return seconds


def parse_seconds(text: str) -> float:
    """Read a duration as Go writes it (`5s`, `1h30m`), in seconds."""
    if not _DURATION.fullmatch(text):
        hint = f"; did you mean '{text}s'?" if text.isascii() and text.isdigit() else ""
        raise InvalidRequest(
            f"expected a duration like 5s, 30m or 1h30m, found {shown(text)}{hint}"
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def parse_whole_seconds(text: str) -> int:
    """Read whole seconds, as Teleport's `max_age` has them: `86400`, or a duration like `24h`."""
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    return int(parse_seconds(text))


def parse_retention(text: str) -> int | None:
    """Read for how many days something is kept: `90d`; None: `forever`."""
    if text == "forever":
        return None
    if (match := _DAYS.fullmatch(text)) is None:
        hint = f"; did you mean '{text}d'?" if _DAYS.fullmatch(f"{text}d") else ""
        raise InvalidRequest(f"expected days like 90d, or forever, found {shown(text)}{hint}")
    return int(match[1])


def check_retention(text: str) -> str:
    parse_retention(text)
    return text


def parse_choice(text: str, choices: Sequence[str]) -> str:
    if text in choices:
        return text
    raise InvalidRequest(
        f"expected {one_of(choices)}, found {shown(text)}{did_you_mean(text, choices)}"
    )


def parse_cluster_name(text: str) -> str:
    if not _CLUSTER_NAME.fullmatch(text):
        raise InvalidRequest(
            f"{shown(text)} is no cluster name (letters, digits, '.', '_' and '-', as in"
            " tport.example.com)"
        )
    return text


def check_email(text: str) -> str:
    if not _EMAIL.fullmatch(text):
        raise InvalidRequest(f"{shown(text)} is no e-mail address, as in alice@example.com")
    return text


def parse_pin(text: str) -> str:
    """Return a CA pin as 64 lower-case hex digits, or the absolute path of a file of pins."""
    if is_file(text):
        return text
    if (match := _PIN.fullmatch(text)) is None:
        raise InvalidRequest(
            f"{shown(text)} is no CA pin; expected sha256:<64 hex digits> or the absolute path of a file"
        )
    return match[1].lower()


def check_join_secret(text: str) -> str:
    """Return a join token, or the absolute path of the file that holds it. Messages never show it."""
    if is_file(text):
        return text
    try:
        split_join_token(text)
    except InvalidRequest:
        raise InvalidRequest(
            "this is no join token, nor the absolute path of a file that holds one"
        ) from None
    return text


def split_static_token(text: str) -> tuple[str, tuple[str, ...]]:
    """Split `app:<secret>` into the secret (or its file) and the roles that have no effect here.

    Raises:
        InvalidRequest: naming the rule, never the secret. AG-01: a secret of under 32
            characters can be guessed, and never expires.
    """
    names, colon, secret = text.partition(":")
    roles = [name.strip().lower() for name in names.split(",")]
    others = tuple(role for role in roles if role != "app")
    if not colon or not all(role in _OTHER_TOKEN_ROLES for role in others):
        raise InvalidRequest("expected app:<secret>, or app:/path/of/a/file with the secret")
    if "app" not in roles:
        raise InvalidRequest(f"a token for {others[0]!r} has no use here; expected app:<secret>")
    if not is_file(secret) and not _STATIC_SECRET.fullmatch(secret):
        raise InvalidRequest(
            "a token that never expires needs 32 to 128 characters of A-Z, a-z, 0-9, _ and -;"
            " make one with: openssl rand -hex 32"
        )
    return secret, others


def is_file(text: str) -> bool:
    """Tell whether a value names a file that holds the value; relative paths never do."""
    return PurePosixPath(text).is_absolute()


def shown(text: str) -> str:
    """Quote what someone wrote, on one line and not too long."""
    return repr(text) if len(text) <= 80 else f"{text[:80]!r}…"


def one_of(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def did_you_mean(text: str, choices: Sequence[str]) -> str:
    """Return `; did you mean 'x'?`, or "" when nothing is close."""
    close = get_close_matches(text.lower(), choices, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
