"""Which of a browser's headers an agent gets: no secret of ours, nothing that is the proxy's to say."""

from __future__ import annotations

import pytest

from tport.engine.proto.head import parse_request_head
from tport.engine.proto.sieve import read_lines
from tport.engine.proxy import for_agent as for_agent_module
from tport.engine.proxy.for_agent import MAX_NAME, MAX_NAMES, for_agent

Field = tuple[bytes, bytes]


def passed(*lines: bytes) -> list[Field]:
    head = b"\r\n".join((b"GET / HTTP/1.1", b"Host: grafana.proxy.test", *lines, b"", b""))
    return [
        field for field in read_lines(for_agent(parse_request_head(head))) if field[0] != b"host"
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Keep-Alive: 5",
        b"Proxy-Authorization: Basic x",
        b"Teleport-Jwt-Assertion: eyJ",
        b"X-Forwarded-For: 192.0.2.1",
        b"X_Forwarded_For: 192.0.2.1",
        b"Cookie: __Host-tport_app_1=x",
    ],
)
def test_what_is_ours_to_say_or_about_this_connection_goes_no_further(line: bytes) -> None:
    """AZ-09, HTTP-16."""
    assert passed(line, b"Accept: */*") == [(b"accept", b"*/*")]


def test_what_a_connection_header_names_stays_with_it() -> None:
    assert passed(b"Connection: close, X-Hop", b"X-Hop: 1", b"X-End: 2") == [(b"x-end", b"2")]


def test_an_applications_cookies_go_on_without_ours() -> None:
    assert passed(b"Cookie: a=b; __Host-tport_app_1=x; c=d") == [(b"cookie", b"a=b; c=d")]


def test_a_device_token_stays_and_any_other_authorization_goes_on() -> None:
    assert passed(b"Authorization: Bearer theirs") == [(b"authorization", b"Bearer theirs")]
    assert passed(b"Authorization: Bearer tport_" + b"x" * 43) == []


def test_names_that_browsers_invent_are_forgotten_again_and_long_ones_never_kept() -> None:
    for number in range(2 * MAX_NAMES + 1):
        assert passed(b"X-%d: 1" % number) == [(b"x-%d" % number, b"1")]
    long = b"x-" + b"y" * MAX_NAME
    assert passed(long + b": 1") == [(long, b"1")]

    assert len(for_agent_module._KINDS) <= MAX_NAMES
    assert long not in for_agent_module._KINDS
