"""A request that went to an application, as the log of requests keeps it."""

from __future__ import annotations

from datetime import datetime

import msgspec


class RequestRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True, array_like=True):
    """One request of a live session, once it has ended; a WebSocket when it was closed.

    Attributes:
        time: when it ended, aware.
        duration: in milliseconds, from its head until the end of its answer.
        path: without the query, which may hold secrets.
        query: what stood behind the `?`, where the operator wants it kept; else "".
        status: as the person was told; 101 a WebSocket; 0: cut before there was an answer.
        bytes_in, bytes_out: of the bodies, or of all that a WebSocket carried.
        error: why there is no answer of the application; "": there is one.
    """

    time: datetime
    duration: float
    request_id: str
    user: str
    session: str
    app: str
    host: str
    method: str
    path: str
    query: str
    status: int
    bytes_in: int
    bytes_out: int
    remote: str
    user_agent: str
    error: str
