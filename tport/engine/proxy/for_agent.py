"""Which of a client's headers go on to the agent. Pure."""

from __future__ import annotations

from typing import Final, Literal

from tport.engine.proto.cookies import strip_cookies
from tport.engine.proto.device_token import is_device_token
from tport.engine.proto.fields import fold, forwardable, is_reserved
from tport.engine.proto.head import RequestHead

Field = tuple[bytes, bytes]

MAX_NAMES: Final = 1024  # of headers, of at most MAX_NAME bytes, whose kind is remembered
MAX_NAME: Final = 128


def for_agent(request: RequestHead) -> list[Field]:
    """Return the headers that go on: no hop-by-hop, no reserved ones, no cookies or tokens of ours."""
    headers, named = request.headers, request.connection_tokens
    passed: list[Field] = []
    for field in headers if not named else [field for field in headers if field[0] not in named]:
        kind = _KINDS[field[0]]
        if kind == "passes":
            passed.append(field)
        elif kind == "cookie":
            if kept := strip_cookies(field[1]):
                passed.append((b"cookie", kept))
        elif kind == "authorization" and not is_device_token(field[1]):
            passed.append(field)
    return passed


_Kind = Literal["passes", "stays", "cookie", "authorization"]


class _Kinds(dict[bytes, _Kind]):
    """What becomes of a header, by its name; remembered."""

    def __missing__(self, name: bytes) -> _Kind:
        kind: _Kind = "passes"
        if not forwardable([(name, b"")], frozenset()) or is_reserved(fold(name)):
            kind = "stays"
        elif name == b"cookie":
            kind = "cookie"
        elif name == b"authorization":
            kind = "authorization"
        if len(self) >= MAX_NAMES:
            self.clear()
        if len(name) <= MAX_NAME:
            self[name] = kind
        return kind


_KINDS: Final = _Kinds()
