"""A request as a line of the log of requests. Pure; some microseconds each, for there are many."""

from __future__ import annotations

from typing import Final

import msgspec

from tport.engine.audit.line import FIELD_LIMIT, encode, format_time
from tport.engine.types.event import CODES
from tport.engine.types.request_record import RequestRecord

TYPE: Final = "app.session.request"
_CODE: Final = CODES[TYPE]


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The fields as they are written: Teleport's names where it has them."""

    time: str
    uid: str
    cluster_name: str
    event: str
    code: str
    user: str
    app_name: str
    app_public_addr: str
    method: str
    path: str
    raw_query: str = ""
    status_code: int
    bytes_in: int
    bytes_out: int
    duration_ms: float
    error: str = ""
    addr_remote: str = msgspec.field(name="addr.remote")
    user_agent: str
    sid: str
    server_id: str
    server_kind: str


def request_line(record: RequestRecord, origin: str, cluster: str) -> bytes:
    """Return the request as an event of Teleport's type, with a newline.

    What a client chose (path, query, agent) is cut as `line` cuts it.
    """
    path, query, error, agent = record.path, record.query, record.error, record.user_agent
    if len(path) + len(query) + len(error) + len(agent) > FIELD_LIMIT:  # hardly ever
        path, query, error, agent = map(_cut, (path, query, error, agent))
    line = _Line(
        time=format_time(record.time),
        uid=record.request_id,
        cluster_name=cluster,
        event=TYPE,
        code=_CODE,
        user=record.user,
        app_name=record.app,
        app_public_addr=record.host,
        method=record.method,
        path=path,
        raw_query=query,
        status_code=record.status,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        duration_ms=record.duration,
        error=error,
        addr_remote=record.remote,
        user_agent=agent,
        sid=record.session,
        server_id=origin,
        server_kind="proxy",
    )
    return encode(line) + b"\n"


def _cut(text: str) -> str:
    return text if len(text) <= FIELD_LIMIT else f"{text[:FIELD_LIMIT]}… (of {len(text)})"
