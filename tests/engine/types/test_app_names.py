"""What an application may be called: one plain DNS label, the same to every eye."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.errors import InvalidRequest
from tport.engine.types.app import App, check_app_name, is_label, public_host


@pytest.mark.parametrize("name", ["grafana", "a", "a-b", "0x", "a" * 63])
def test_a_plain_label_is_a_name(name: str) -> None:
    assert check_app_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-a", "a-", "Grafana", "a.b", "a_b", "grafana\n", "a" * 64, "grаfana", "٣", "a b"],
)
def test_anything_else_is_none(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_app_name(name)


def test_tls_11_a_punycode_label_is_none_and_it_is_said_why() -> None:
    """Browsers show it as other letters: `xn--grfana-4nf` looks like grafana and is another host."""
    with pytest.raises(InvalidRequest, match="punycode"):
        check_app_name("xn--grfana-4nf")


@given(st.text())
def test_no_other_text_becomes_a_host(name: str) -> None:
    try:
        check_app_name(name)
    except InvalidRequest:
        return
    host = public_host(App(name=name, uri="http://localhost"), "proxy.test")
    assert host == f"{name}.proxy.test"
    assert name.isascii()
    assert name == name.lower()


def test_a_public_address_stands_for_the_name() -> None:
    app = App(name="grafana", uri="http://localhost", public_addr="metrics.example.com")
    assert public_host(app, "proxy.test") == "metrics.example.com"


def test_two_agents_mean_the_same_application_whatever_its_labels() -> None:
    one = App(name="grafana", uri="http://localhost:3000", labels={"env": "dev"})
    other = App(name="grafana", uri="http://localhost:3000", description="ours")
    assert one.same_definition(other)
    assert not one.same_definition(App(name="grafana", uri="http://localhost:3001"))


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("env", "dev", True),
        ("teleport.dev/origin", "", True),
        ("", "x", False),
        ("env", "a\nb", False),
        ("env", "x" * 1025, False),
        ("e v", "x", False),
    ],
)
def test_a_label_is_a_plain_key_and_a_printable_value(key: str, value: str, fits: bool) -> None:
    assert is_label(key, value) is fits
