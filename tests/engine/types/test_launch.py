import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.types.launch import MAX_PATH, own_path


@pytest.mark.parametrize("path", ["/", "/d/1?a=%20b&c=%2F%2Fevil", "/~x/#frag", "/a//b"])
def test_an_ordinary_path_comes_back_to_the_letter(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize(
    "path", ["", "x", "//evil", "/\\evil", "/a\\b", "/\t/evil", "/a b", "/a\r\nx: y", "/é", "/\x7f"]
)
def test_what_a_browser_might_take_for_another_site_becomes_the_default(path: str) -> None:
    assert own_path(path, default="/home") == "/home"


def test_a_path_longer_than_the_limit_becomes_the_default() -> None:
    longest = "/" + "a" * (MAX_PATH - 1)

    assert own_path(longest) == longest
    assert own_path(longest + "a") == "/"


@given(st.text())
def test_whatever_comes_out_is_one_slash_and_visible_ascii(raw: str) -> None:
    path = own_path(raw)

    assert path.startswith("/")
    assert not path.startswith(("//", "/\\"))
    assert all("!" <= character <= "~" for character in path)
