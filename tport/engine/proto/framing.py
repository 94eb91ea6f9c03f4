"""How an HTTP/1.1 message says where its body ends."""

from __future__ import annotations

from typing import Final, Literal

import msgspec


class Framing(msgspec.Struct, frozen=True):
    """Where a body ends. Make one by `NO_BODY`, `CHUNKED`, `UNTIL_CLOSE` or `of_length`.

    Attributes:
        length: of the body in bytes; None: known only at its end.
    """

    kind: Literal["none", "length", "chunked", "until-close"]
    length: int | None


NO_BODY: Final = Framing("none", 0)
CHUNKED: Final = Framing("chunked", None)
UNTIL_CLOSE: Final = Framing("until-close", None)  # responses only


def of_length(length: int) -> Framing:
    return Framing("length", length)
