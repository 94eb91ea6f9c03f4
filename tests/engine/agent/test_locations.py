import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.agent.test_rewrite import PUBLIC, app
from tport.engine.agent.rewrite import Rewriter
from tport.engine.proto.sieve import read_lines

REWRITER = Rewriter(app(redirect=["jenkins.internal.dev"]), hostname="box")
PUBLIC_URL = f"https://{PUBLIC}"


def seen(name: str, value: str, status: int = 200) -> str:
    """What a browser sees of a header of the application's answer."""
    lines = REWRITER.response(status, [(name.encode(), value.encode("latin-1"))], public=PUBLIC)
    [(_, rewritten)] = read_lines(lines)
    return rewritten.decode("latin-1")


@pytest.mark.parametrize("status", [200, 201, 206, 302, 304, 404, 503])
def test_content_location_and_refresh_count_with_any_status(status: int) -> None:
    assert seen("content-location", "http://localhost:3000/a?b#c", status) == f"{PUBLIC_URL}/a?b#c"
    assert seen("refresh", "5; url=http://localhost:3000/a", status) == f"5; url={PUBLIC_URL}/a"


@pytest.mark.parametrize(
    ("status", "changes"),
    [(300, True), (301, True), (308, True), (201, True), (200, False), (202, False), (304, False)],
)
def test_location_counts_where_it_leads_somewhere(status: int, changes: bool) -> None:
    """A 304 stays as it is: it repeats what is in a cache already."""
    value = "http://localhost:3000/a"

    assert seen("location", value, status) == (f"{PUBLIC_URL}/a" if changes else value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0;URL=http://jenkins.internal.dev:8080/a", f"0;URL={PUBLIC_URL}/a"),
        ("0 ; Url = //jenkins.internal.dev/a", f"0 ; Url = {PUBLIC_URL}/a"),
        ("0,http://localhost:3000/", f"0,{PUBLIC_URL}/"),
        ("2.5 url=http://localhost:3000/", f"2.5 url={PUBLIC_URL}/"),
        ('1; url="http://localhost:3000/a"; x', f'1; url="{PUBLIC_URL}/a"; x'),
        ("1; url='http://localhost:3000/a'", f"1; url='{PUBLIC_URL}/a'"),
        ("1; url='http://localhost:3000/a", f"1; url='{PUBLIC_URL}/a"),
    ],
)
def test_a_refresh_leads_to_the_public_address_however_it_is_written(
    value: str, expected: str
) -> None:
    assert seen("refresh", value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "5",
        "",
        "5; url=",
        "5; url=/login",
        "5; url='login'",
        "5; url=http://localhost:3001/",
        "5; url=http://other.dev/?next=http://localhost:3000/",
        "5; url=http://jenkins.internal.dev@evil.com/",
        "5; url=javascript://jenkins.internal.dev/",
        "soon",
    ],
)
def test_any_other_refresh_stays_as_it_is(value: str) -> None:
    """AG-08: relative ones too, and none that leads elsewhere gains our address."""
    assert seen("refresh", value) == value


@given(value=st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_whatever_a_header_holds_it_gains_no_address_but_the_public_one(value: str) -> None:
    for name in ("location", "content-location", "refresh"):
        rewritten = seen(name, value, 302)

        assert rewritten == value or PUBLIC_URL in rewritten


@pytest.mark.parametrize("filler", [";", " ", "9", "url=", "0;"])
def test_a_long_refresh_takes_no_longer_than_its_length(filler: str) -> None:
    """60 KiB, as long as a head may be: were it quadratic, this would take minutes."""
    value = filler * (60_000 // len(filler)) + "\xff"

    assert seen("refresh", value) == value
