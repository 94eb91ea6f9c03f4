"""Which of a client's headers go on to the agent. Pure."""

from __future__ import annotations

from typing import Final, Literal

from tport.engine.proto.cookies import strip_cookies
from tport.engine.proto.device_token import is_device_token
from tport.engine.proto.fields import HOP_BY_HOP, Field, Lines, fold, forwardable, is_reserved
from tport.engine.proto.head import RequestHead
from tport.engine.proto.memory import ByRule
from tport.engine.proto.sieve import FieldSieve

MAX_NAMES: Final = 1024  # of headers, of at most MAX_NAME bytes, whose kind is remembered
MAX_NAME: Final = 128


def for_agent(request: RequestHead) -> Lines:
    """Return the lines that go on: no hop-by-hop, no reserved ones, no cookies or tokens of ours."""
    headers, named = request.headers, request.connection_tokens
    if named and not named <= HOP_BY_HOP:  # what stays is not told by each field alone
        headers = tuple(field for field in headers if field[0] not in named)
    return _SIEVE.lines(headers)


def _passed(field: Field) -> Field | None:
    kind = _KINDS[field[0]]
    if kind == "cookie":
        kept = strip_cookies(field[1])
        return (b"cookie", kept) if kept else None
    stays = kind == "stays" or (kind == "authorization" and is_device_token(field[1]))
    return None if stays else field


_SIEVE: Final = FieldSieve(_passed, judged=True)


_Kind = Literal["passes", "stays", "cookie", "authorization"]


def _kind_of(name: bytes) -> _Kind:
    """Return what becomes of a header, by its name."""
    kind: _Kind = "passes"
    if not forwardable([(name, b"")], frozenset()) or is_reserved(fold(name)):
        kind = "stays"
    elif name == b"cookie":
        kind = "cookie"
    elif name == b"authorization":
        kind = "authorization"
    return kind


_KINDS: Final = ByRule(_kind_of, count=MAX_NAMES, longest=MAX_NAME)
