"""The Audit page: events and requests, searched, followed, and written out as JSON lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import InvalidRequest
from tport.engine.types.event import CODES
from tport.engine.types.event_query import EventPage, EventQuery
from tport.engine.web.assets import AUDIT_SCRIPT, AUDIT_STYLE
from tport.engine.web.respond import stream
from tport.engine.web.visit import SignedInRoutes, Visit

AUDIT: Final = "/web/audit"
EXPORT: Final = f"{AUDIT}/export"
SHOWN: Final = 20  # events of a page, with all their fields: below 60 kB
EXPORTED: Final = 1000  # of one question while exporting
MAX_EXPORT: Final = 100_000  # events of a download; the command line has no such bound
MAX_FIELD: Final = 200  # characters of a filter
MAX_TOLD: Final = 240  # characters of what is said of an event in its row

_RULE: Final = ("event", "list")
# What a row tells elsewhere, or what says nothing to people.
_APART: Final = frozenset(
    [
        "time",
        "uid",
        "cluster_name",
        "event",
        "code",
        "user",
        "app_name",
        "seq",
        "prev",
        "server_id",
        "server_kind",
        "sid",
        "success",
        "app_public_addr",
        "public_addr",
        "user_agent",
        "method",
        "path",
        "status_code",
        "duration_ms",
    ]
)


class Row(NamedTuple):
    """An event as the page shows it.

    Attributes:
        time: in UTC, to the second.
        mood: "bad" for what failed or was refused, else "".
        badge: a request's status; "" for events.
        fields: all there is, for the details.
    """

    uid: str
    time: str
    what: str
    told: str
    badge: str
    mood: str
    user: str
    app: str
    fields: Sequence[tuple[str, str]]


class AuditPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.get(AUDIT, self.show, _RULE),
            signed_in.get(EXPORT, self.export, _RULE),
        ]

    async def show(self, visit: Visit) -> Response:
        """GET /web/audit?log=&user=&app=&type=&q=&since=&until=&cursor="""
        filters = _filters(visit.request)
        cursor = visit.request.query_params.get("cursor", "")[:MAX_FIELD]
        page, newest, query_json = EventPage(events=(), cursor=""), "", ""
        try:
            query = _query(filters)
            if not cursor and not query.until:
                # Asked before the search, so that nothing falls between the two.
                end = await visit.auth.follow_events(query=query, cursor="", limit=1)
                newest, query_json = end.cursor, msgspec.json.encode(query).decode()
            page = await visit.auth.search_events(query=query, cursor=cursor, limit=SHOWN)
        except InvalidRequest as problem:
            visit.problem = problem
        others = {**filters, "log": "" if filters["log"] else "requests", "type": ""}
        return await visit.page(
            "audit.html",
            rows=[make_row(event) for event in page.events],
            filters=filters,
            is_filtered=any(value for name, value in filters.items() if name != "log"),
            types=sorted(_known_types()),
            events_url=_url(AUDIT, filters if not filters["log"] else others),
            requests_url=_url(AUDIT, filters if filters["log"] else others),
            all_url=_url(AUDIT, {"log": filters["log"]}),
            newest_url=_url(AUDIT, filters) if cursor else "",
            reload_url=_url(AUDIT, filters),
            older_url=_url(AUDIT, {**filters, "cursor": page.cursor}) if page.cursor else "",
            searched_back_to=page.cursor.partition(":")[0],
            export_url=_url(EXPORT, filters),
            newest=newest,
            query=query_json,
            apart=" ".join(sorted(_APART)),
            most=MAX_TOLD,
            audit_url=AUDIT,
            max_export=MAX_EXPORT,
            audit_style_url=AUDIT_STYLE.url,
            audit_script_url=AUDIT_SCRIPT.url,
        )

    async def export(self, visit: Visit) -> Response:
        """GET /web/audit/export: what is found, as JSON lines, the newest first."""
        filters = _filters(visit.request)
        query = _query(filters)
        first = await visit.auth.search_events(query=query, cursor="", limit=EXPORTED)
        name = f"{filters['log'] or 'audit'}-{visit.now:%Y-%m-%d}.jsonl"
        return stream(
            _lines(visit.auth, query, first),
            "application/jsonl",
            headers=(("content-disposition", f'attachment; filename="{name}"'),),
        )


async def _lines(auth: AuthAPI, query: EventQuery, page: EventPage) -> AsyncIterator[bytes]:
    """Yield pages of JSON lines; what fails in the middle cuts the download, so that it shows."""
    count = 0
    while True:
        if page.events:
            yield b"".join(msgspec.json.encode(event) + b"\n" for event in page.events)
        count += len(page.events)
        if not page.cursor or count >= MAX_EXPORT:
            return
        left = min(EXPORTED, MAX_EXPORT - count)
        page = await auth.search_events(query=query, cursor=page.cursor, limit=left)


def make_row(event: Mapping[str, Any]) -> Row:
    is_request = event.get("event") == "app.session.request"
    if is_request:
        what = f"{event.get('method', '')} {event.get('path', '')}"
    else:
        what = str(event.get("event", ""))
    told = [f"{key}: {_word(value)}" for key, value in event.items() if key not in _APART]
    if is_request:
        told = [f"{event.get('duration_ms', 0):.0f} ms"]
        told += [f"{event[key]} bytes {way}" for key, way in _WAYS if event.get(key)]
        told += [str(event["error"])] if event.get("error") else []
    status = event.get("status_code", "")
    return Row(
        uid=str(event.get("uid", "")),
        time=printable(str(event.get("time", ""))[:19].replace("T", " ")),
        what=_short(what),
        told=_short(", ".join(told)),
        badge=("cut" if status == 0 else str(status)) if is_request else "",
        mood="bad" if _is_bad(event) else "",
        user=printable(str(event.get("user", ""))),
        app=printable(str(event.get("app_name", ""))),
        fields=[(printable(key), printable(_word(value))) for key, value in event.items()],
    )


_WAYS: Final = (("bytes_in", "in"), ("bytes_out", "out"))


def _is_bad(event: Mapping[str, Any]) -> bool:
    if event.get("event") == "app.session.request":
        status = event.get("status_code")
        return bool(event.get("error")) or (isinstance(status, int) and status >= 500)
    return str(event.get("code", "")).endswith(("W", "E"))


def _word(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(_word, value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as a script has it, for which there is one kind of number
    return msgspec.json.encode(value).decode()


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]}…"


def printable(text: str) -> str:
    """Return text of a remote party without what can't be seen, or turns the text around it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


# --- What was asked --------------------------------------------------------------------------------


def _filters(request: Request) -> dict[str, str]:
    """Return what the form says, each "" where it says nothing."""
    given = request.query_params
    filters = {
        name: given.get(name, "").strip()[:MAX_FIELD]
        for name in ("user", "app", "type", "q", "since", "until")
    }
    return {"log": "requests" if given.get("log") == "requests" else "", **filters}


def _query(filters: Mapping[str, str]) -> EventQuery:
    """Raises InvalidRequest: a time that is none."""
    return EventQuery(
        log="requests" if filters["log"] else "audit",
        types=tuple(filters["type"].split()),
        user=filters["user"],
        app=filters["app"],
        text=filters["q"],
        since=_moment("From", filters["since"]),
        until=_moment("Until", filters["until"]),
    )


def _moment(label: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"{label} is no time", hint="write it as 2026-01-31 or 2026-01-31T12:00, in UTC"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _url(path: str, filters: Mapping[str, str]) -> str:
    given = {name: value for name, value in filters.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def _known_types() -> set[str]:
    return {
        type_.removesuffix(".failed") if type_ != "auth.failed" else type_
        for type_ in CODES
        if type_ != "app.session.request"
    }
