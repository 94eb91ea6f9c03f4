"""What a request's headers say to the proxy: the same, however often they came before."""

from __future__ import annotations

import pytest

from tport.engine.proto.head import Block, parse_request_head
from tport.engine.proxy.asked import MAX_COOKIES, Asked, read_asked
from tport.engine.types.session import session_id

NAME = b"__Host-tport_app_1"
SECRET = "s" * 43
SESSION = session_id(SECRET)
OURS = f"Cookie: a=b; {NAME.decode()}={SECRET}"


def asked(*lines: str) -> list[Asked]:
    """What is found each time when these lines come again and again."""
    head = "\r\n".join(["GET / HTTP/1.1", "Host: a.test", *lines, "", ""]).encode()
    requests = [parse_request_head(head) for _ in range(4)]
    assert isinstance(requests[-1].headers, Block)
    return [read_asked(request, NAME) for request in requests]


@pytest.mark.parametrize(
    ("lines", "session", "shows_secret"),
    [
        ([OURS], SESSION, False),
        (["Cookie: a=b"], "", False),
        ([], "", False),
        ([OURS, OURS], "", False),  # WEB-01: one of them is planted
        ([f"{OURS}; {NAME.decode()}=other"], "", False),
        ([f"Cookie: {'x' * MAX_COOKIES}; {NAME.decode()}={SECRET}"], SESSION, False),
        ([OURS, "Tport-Authorization: Bearer x"], SESSION, True),
    ],
)
def test_what_headers_say_is_the_same_each_time(
    lines: list[str], session: str, shows_secret: bool
) -> None:
    found = asked(*lines)

    assert len(set(found)) == 1
    assert (found[0].session, found[0].shows_secret) == (session, shows_secret)
    assert found[0].passed.count(SECRET.encode()) == 0


def test_another_cookies_name_finds_another_session() -> None:
    head = f"GET / HTTP/1.1\r\nHost: a.test\r\n{OURS}\r\n\r\n".encode()
    for _ in range(4):
        request = parse_request_head(head)
        assert read_asked(request, NAME).session == SESSION
        assert read_asked(request, b"__Host-tport_app_2").session == ""
