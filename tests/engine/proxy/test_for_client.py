"""Which headers of an agent's answer a browser may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.proto.fields import HOP_BY_HOP, NOT_FROM_APPS
from tport.engine.proxy import for_client as for_client_module
from tport.engine.proxy.for_client import MAX_NAME, MAX_NAMES, for_client

GONE = [*HOP_BY_HOP, *NOT_FROM_APPS, b"teleport-jwt-assertion", b"x-forwarded-for", b"tport_x"]


@given(st.sampled_from(sorted(GONE)), st.lists(st.booleans(), min_size=40, max_size=40))
def test_what_stays_stays_in_any_case(name: bytes, capitals: list[bool]) -> None:
    """HTTP-16, AZ-09."""
    spelt = b"".join(
        bytes([byte]).upper() if capital else bytes([byte])
        for byte, capital in zip(name, capitals, strict=False)
    )

    assert for_client(spelt + b": x\r\nX-Other: y\r\n") == b"x-other: y\r\n"


@pytest.mark.parametrize("name", [b"set-cookie", b"Set-Cookie", b"SET-COOKIE"])
def test_a_cookie_is_for_its_host_and_none_of_ours_however_its_header_is_spelt(name: bytes) -> None:
    """WEB-03, WEB-04."""
    ours = name + b": __Host-tport_app_1=x; Path=/; Secure\r\n"
    theirs = name + b": a=b; Domain=x; Path=/\r\n"

    assert for_client(ours + theirs) == b"set-cookie: a=b; Path=/\r\n"


def test_names_that_an_agent_invents_are_forgotten_again() -> None:
    for number in range(3 * MAX_NAMES):
        assert for_client(b"x-%d: \r\n" % number)
        assert for_client(b"Set-Cookie: __Host-tport_x=y\r\n") == b""


def test_a_long_name_passes_and_is_not_remembered() -> None:
    long = b"x-" + b"y" * MAX_NAME

    assert for_client(long + b": 1\r\n") == long + b": 1\r\n"
    assert long not in for_client_module._KINDS
