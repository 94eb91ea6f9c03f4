from collections.abc import AsyncGenerator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.errors import InvalidRequest
from tport.engine.web.forms import (
    FORM_TYPE,
    MAX_FORM,
    FormTooLarge,
    comes_from,
    form_token,
    read_form,
    token_fits,
)

OURS = frozenset({"https://proxy.test:3080"})
SECRET = b"x" * 32


async def chunks(*parts: bytes) -> AsyncGenerator[bytes, None]:
    for part in parts:
        await trio.lowlevel.checkpoint()
        yield part


@given(binding=st.text(min_size=1), other=st.text())
def test_a_token_fits_its_own_browser_form_and_key_only(binding: str, other: str) -> None:
    token = form_token(SECRET, "login", binding)

    assert token_fits(token, secret=SECRET, purpose="login", binding=binding)
    assert not token_fits(token, secret=SECRET, purpose="logout", binding=binding)
    assert not token_fits(token, secret=b"y" * 32, purpose="login", binding=binding)
    assert not token_fits(other, secret=SECRET, purpose="login", binding=binding)
    if other != binding:
        assert not token_fits(token, secret=SECRET, purpose="login", binding=other)


def test_no_token_fits_a_browser_without_a_binding() -> None:
    token = form_token(SECRET, "login", "")

    assert not token_fits(token, secret=SECRET, purpose="login", binding="")


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site", "origin": "https://proxy.test:3080"}, False),
        ({"sec-fetch-site": "none", "origin": "https://proxy.test:3080"}, True),
        ({"sec-fetch-site": "none", "origin": "https://evil.proxy.test"}, False),
        ({"origin": "https://proxy.test:3080"}, True),
        ({"origin": "http://proxy.test:3080"}, False),
        ({"origin": "https://proxy.test"}, False),
        ({"origin": "https://proxy.test:3080.evil.com"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({}, True),  # no browser: the token decides alone
    ],
)
def test_a_post_comes_from_our_own_pages_or_from_no_browser(
    headers: dict[str, str], passes: bool
) -> None:
    assert comes_from(headers, OURS) is passes


async def test_a_form_is_read_wherever_it_is_cut() -> None:
    fields = await read_form(f"{FORM_TYPE}; charset=utf-8", chunks(b"a=1&b=%C", b"3%A9+x&c="))

    assert fields == {"a": "1", "b": "é x", "c": ""}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("text/plain", b"a=1"),
        ("", b"a=1"),
        (FORM_TYPE, b"a=%FF"),
        (FORM_TYPE, b"a=\xff"),
        (FORM_TYPE, b"a=1&" * 17),
    ],
)
async def test_what_is_no_form_of_ours_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await read_form(kind, chunks(body))


async def test_a_body_is_read_no_further_than_the_limit() -> None:
    taken = []

    async def endless() -> AsyncGenerator[bytes, None]:
        while True:
            await trio.lowlevel.checkpoint()
            taken.append(1)
            yield b"a" * 1024

    with pytest.raises(FormTooLarge):
        await read_form(FORM_TYPE, endless())

    assert len(taken) == MAX_FORM // 1024 + 1
