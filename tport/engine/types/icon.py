"""An application's icon: a picture by its content, whatever it is called, and never large."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

MAX_ICON: Final = 64 * 1024  # bytes; browsers ask for 16 to 48 pixels, which need a tenth of it
_MAX_PICTURES: Final = 64  # in one ICO


class Icon(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that browsers may be given.

    Attributes:
        media_type: by what `body` begins with.
        tag: names this very picture.
    """

    media_type: str
    tag: str
    body: bytes


def icon_of(body: bytes) -> Icon | None:
    """Return the picture that these bytes are; None: they are none that is served.

    PNG, ICO, GIF, JPEG and WebP, none of which can hold script. SVG can, and is none.
    """
    media_type = _media_type(body)
    if media_type is None or len(body) > MAX_ICON:
        return None
    return Icon(media_type=media_type, tag=hashlib.sha256(body).hexdigest()[:16], body=body)


def _media_type(body: bytes) -> str | None:
    # The signatures of https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern, and for
    # PNG and ICO, what comes next.
    if body.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"):
        return "image/png"
    if body.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if body.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if body.startswith(b"RIFF") and body[8:14] == b"WEBPVP":
        return "image/webp"
    if body.startswith(b"\0\0\1\0") and _is_ico(body):
        return "image/vnd.microsoft.icon"
    return None


def _is_ico(body: bytes) -> bool:
    """Tell whether each picture that the directory names lies within the file."""
    count = int.from_bytes(body[4:6], "little")
    end = 6 + 16 * count
    if not 0 < count <= _MAX_PICTURES or len(body) < end:
        return False
    for at in range(6, end, 16):
        length = int.from_bytes(body[at + 8 : at + 12], "little")
        offset = int.from_bytes(body[at + 12 : at + 16], "little")
        if length == 0 or offset < end or offset + length > len(body):
            return False
    return True
