"""An icon is a picture by its content: nothing else is, whatever it is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pictures import GIF, HTML, ICO, JPEG, PNG, SVG, WEBP, ico
from tport.engine.types.icon import MAX_ICON, icon_of

KINDS = {
    "image/png": PNG,
    "image/gif": GIF,
    "image/jpeg": JPEG,
    "image/webp": WEBP,
    "image/vnd.microsoft.icon": ICO,
}


@pytest.mark.parametrize("media_type", KINDS)
def test_pictures_are_known_by_what_they_begin_with(media_type: str) -> None:
    icon = icon_of(KINDS[media_type])

    assert icon is not None
    assert (icon.media_type, icon.body) == (media_type, KINDS[media_type])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        SVG,
        b'<?xml version="1.0"?>' + SVG,
        HTML,
        b"\n" + PNG,
        b"\x1f\x8b\x08\0",  # gzip, which nobody asked for
        PNG[:12],
        b"GIF88a",
        b"RIFF\x1a\0\0\0WAVEfmt ",
        b"\0\0\2\0\1\0",  # a cursor
        b"%PDF-1.7",
    ],
)
def test_what_is_no_picture_is_none(body: bytes) -> None:
    assert icon_of(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"\0\0\1\0\0\0" + HTML,  # no pictures in it
        b"\0\0\1\0\1\0" + HTML,
        ICO[:-1],
        ico(b""),
        b"\0\0\1\0\xff\xff" + bytes(16 * 0xFFFF),
    ],
)
def test_an_icon_file_whose_pictures_are_not_in_it_is_none(body: bytes) -> None:
    assert icon_of(body) is None


def test_a_picture_is_bounded_to_the_byte() -> None:
    assert icon_of(PNG + bytes(MAX_ICON - len(PNG))) is not None
    assert icon_of(PNG + bytes(MAX_ICON - len(PNG) + 1)) is None


def test_another_picture_has_another_name() -> None:
    icons = [icon_of(body) for body in KINDS.values()]
    assert len({icon.tag for icon in icons if icon}) == len(KINDS)


@given(body=st.binary() | st.binary().map(lambda end: b"\0\0\1\0" + end))
def test_any_bytes_are_a_picture_or_none(body: bytes) -> None:
    icon = icon_of(body)
    assert icon is None or (icon.media_type in KINDS and icon.body == body)
