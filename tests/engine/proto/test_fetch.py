"""Why a request was sent: what a browser says of it, and what the sender will do with an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.proto.fetch import wants_html


@pytest.mark.parametrize(
    ("headers", "page"),
    [
        ({"sec-fetch-dest": "document", "accept": "*/*"}, True),
        ({"sec-fetch-dest": "iframe"}, True),
        ({"sec-fetch-dest": "empty", "accept": "text/html"}, False),
        ({"sec-fetch-dest": "image", "accept": "text/html"}, False),
        ({"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}, True),
        ({"accept": "application/json, text/html;q=0.5"}, True),
        ({"accept": "Text/HTML"}, True),
        ({"accept": "application/json, text/html;q=0"}, False),
        ({"accept": "text/html; q=0.0"}, False),
        ({"accept": "*/*"}, False),
        ({"accept": "application/json"}, False),
        ({"accept": "text/html-ish"}, False),
        ({}, False),
    ],
)
def test_a_page_goes_to_who_would_show_it(headers: dict[str, str], page: bool) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]

    assert wants_html(raw) is page


@given(
    st.lists(st.tuples(st.sampled_from([b"accept", b"sec-fetch-dest", b"x"]), st.binary())),
)
def test_no_header_however_odd_keeps_us_from_answering(headers: list[tuple[bytes, bytes]]) -> None:
    assert wants_html(headers) in (True, False)
