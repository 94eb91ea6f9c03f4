"""What a request's headers say to the proxy, found out once for the same headers."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from tport.engine.proto.cookies import find_cookie
from tport.engine.proto.device_token import presented_secret
from tport.engine.proto.fields import Lines
from tport.engine.proto.head import Block, RequestHead
from tport.engine.proxy.for_agent import for_agent
from tport.engine.types.session import session_id

MAX_COOKIES: Final = 2048  # bytes of a header whose session is remembered: 2 MiB of them


class Asked(NamedTuple):
    """It is all about the headers' bytes: whether a session lives, and what it may, is nothing of it.

    Attributes:
        session: the id of the session that the cookie names; "": none.
        shows_secret: a device token, or what is meant as one, is among them.
        passed: what an agent is sent of them.
    """

    session: str
    shows_secret: bool
    passed: Lines


def read_asked(request: RequestHead, cookie: bytes) -> Asked:
    """Return what the headers of a request say; `cookie` is the name of the session's."""
    headers = request.headers
    if not isinstance(headers, Block):
        return _read(request, cookie)
    if (known := headers.notes.get(cookie)) is None:
        known = headers.notes[cookie] = _read(request, cookie)
    assert isinstance(known, Asked)
    return known


def _read(request: RequestHead, cookie: bytes) -> Asked:
    cookies = tuple([value for name, value in request.headers if name == b"cookie"])
    kept = len(cookies) == 1 and len(cookies[0]) <= MAX_COOKIES
    return Asked(
        session=_known_session(cookies, cookie) if kept else _session(cookies, cookie),
        shows_secret=presented_secret(request.headers) is not None,
        passed=for_agent(request),
    )


def _session(cookies: tuple[bytes, ...], cookie: bytes) -> str:
    secret = find_cookie(cookies, cookie)
    return "" if secret is None else session_id(secret.decode("ascii"))


_known_session = lru_cache(maxsize=1024)(_session)
