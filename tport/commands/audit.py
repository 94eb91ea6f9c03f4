"""`tport audit`: what happened, who asked for what, and whether the log is as it was written."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from tport.commands.moments import parse_moment
from tport.commands.printing import hint, print_out, print_rows, print_value, printable, say
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption

if TYPE_CHECKING:
    from datetime import datetime

    from tport.engine.api.protocol import AuthAPI
    from tport.engine.types.chain import ChainReport, ChainState, Finding
    from tport.engine.types.event_query import EventQuery, LogName

PAGE: Final = 1000  # events of one call
RETRY: Final = 2.0  # s between two tries to reach auth while following
# What every event has, and what has a column of its own: the rest is told in words.
TOLD: Final = frozenset(
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
    ]
)

app = typer.Typer(help="What happened, and who asked for what.", no_args_is_help=True)

User = Annotated[str, typer.Option("--user", help="Only of this user.")]
App = Annotated[str, typer.Option("--app", help="Only of this application.")]
Type = Annotated[
    list[str] | None, typer.Option("--type", help="Only events of this type. May be repeated.")
]
Grep = Annotated[str, typer.Option("--grep", help="Only with all these words in their values.")]
Since = Annotated[
    str, typer.Option("--since", help="From then on: 2h, 7d, 2026-01-31, 2026-01-31T12:00:00Z.")
]
Until = Annotated[str, typer.Option("--until", help="Before then, written likewise.")]
Requests = Annotated[
    bool, typer.Option("--requests", help="Requests to applications, instead of events.")
]


@app.command("ls")
def list_(
    ctx: typer.Context,
    user: User = "",
    app: App = "",
    type: Type = None,
    since: Since = "",
    until: Until = "",
    grep: Grep = "",
    limit: Annotated[int, typer.Option("--limit", help="How many at most.", min=1)] = 100,
    requests: Requests = False,
    format: FormatOption = Format.text,
) -> None:
    """List events, the newest first."""
    query = _query(user, app, type, since, until, grep, requests)

    async def ask(auth: AuthAPI) -> list[Mapping[str, Any]]:
        return [event async for event in _search(auth, query, limit)]

    events = with_cluster(ctx, ask)
    if format is not Format.text:
        print_value(events, format)
        return
    columns = REQUEST_COLUMNS if requests else COLUMNS
    rows = [request_row(event) if requests else row(event) for event in events]
    print_rows(columns, rows, empty="nothing was found")
    if len(events) == limit:
        hint(f"there may be more: --limit={limit * 10}, or --until={events[-1]['time']}")


@app.command()
def follow(
    ctx: typer.Context,
    user: User = "",
    app: App = "",
    type: Type = None,
    grep: Grep = "",
    requests: Requests = False,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="`json`: an object a line.")
    ] = Format.text,
) -> None:
    """Print events as they happen, until Ctrl-C."""
    query = _query(user, app, type, "", "", grep, requests)

    def tell(event: Mapping[str, Any]) -> None:
        if format is Format.text:
            cells = request_row(event) if requests else row(event)
            print_out("  ".join(printable(cell) for cell in cells))
        else:
            _print_event(event, format)

    _follow(ctx, query, tell)


@app.command()
def export(
    ctx: typer.Context,
    user: User = "",
    app: App = "",
    type: Type = None,
    since: Since = "",
    until: Until = "",
    grep: Grep = "",
    requests: Requests = False,
) -> None:
    """Write all that is found to stdout, a JSON object a line, the newest first."""
    query = _query(user, app, type, since, until, grep, requests)

    async def ask(auth: AuthAPI) -> None:
        async for event in _search(auth, query):
            _print_event(event, Format.json)

    with_cluster(ctx, ask)


@app.command()
def verify(
    ctx: typer.Context,
    since: Annotated[str, typer.Option("--since", help="From this day on: 7d, 2026-01-31.")] = "",
    dir: Annotated[
        Path | None,
        typer.Option("--dir", help="Check the files in this folder, without asking a cluster."),
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Say whether both logs are as they were written, or what was changed, removed or added.

    Exit status 1: somebody had a hand in them.
    """
    begin = _moment("--since", since)
    first = "" if begin is None else f"{begin:%Y-%m-%d}.jsonl"
    if dir is not None:
        reports = {str(dir): _verify_folder(dir, first)}
    else:

        async def ask(auth: AuthAPI) -> dict[str, tuple[list[Finding], ChainState]]:
            names: tuple[LogName, ...] = ("audit", "requests")
            return {name: await _verify(auth, name, first) for name in names}

        reports = with_cluster(ctx, ask)
    if format is not Format.text:
        print_value([_as_value(*each) for each in reports.items()], format)
    else:
        for name, (findings, state) in reports.items():
            _tell(name, findings, state)
    if any(finding.is_fault for findings, _ in reports.values() for finding in findings):
        raise typer.Exit(1)


# --- Asking --------------------------------------------------------------------------------------


def _query(
    user: str,
    app: str,
    types: list[str] | None,
    since: str,
    until: str,
    grep: str,
    requests: bool,
) -> EventQuery:
    from tport.engine.types.event_query import EventQuery

    return EventQuery(
        log="requests" if requests else "audit",
        types=tuple(types or ()),
        user=user,
        app=app,
        text=grep,
        since=_moment("--since", since),
        until=_moment("--until", until),
    )


def _moment(option: str, text: str) -> datetime | None:
    from tport.engine.config.flags import judge_flag

    return judge_flag(option, parse_moment, text) if text else None


async def _search(
    auth: AuthAPI, query: EventQuery, limit: int = sys.maxsize
) -> AsyncIterator[Mapping[str, Any]]:
    """Yield what is found, page by page, the newest first, and so many at most."""
    cursor, left = "", limit
    while left:
        page = await auth.search_events(query=query, cursor=cursor, limit=min(left, PAGE))
        for event in page.events:
            yield event
        left -= len(page.events)
        cursor = page.cursor
        if not cursor:
            return


def _follow(
    ctx: typer.Context, query: EventQuery, tell: Callable[[Mapping[str, Any]], None]
) -> NoReturn:
    """Tell what is written from now on, also what is while auth can't be reached for a time."""
    from tport.engine.errors import ConnectionProblem, Unavailable

    cursor, is_lost = "", False

    async def ask(auth: AuthAPI) -> NoReturn:
        nonlocal cursor, is_lost
        while True:
            page = await auth.follow_events(query=query, cursor=cursor, limit=PAGE)
            if is_lost:
                say("connected again; nothing was missed")
            cursor, is_lost = page.cursor, False
            for event in page.events:
                tell(event)

    while True:
        try:
            with_cluster(ctx, ask)  # anew each time: auth may be elsewhere after a restart
        except* (ConnectionProblem, Unavailable) as problems:
            if not cursor:
                raise  # there never was a connection
            if not is_lost:
                say(f"{problems.exceptions[0]}; trying again until Ctrl-C")
            is_lost = True
        sleep(RETRY)


async def _verify(auth: AuthAPI, log: LogName, first: str) -> tuple[list[Finding], ChainState]:
    state = _begin(first)
    findings: list[Finding] = []
    while True:
        report = await auth.check_events(log=log, state=state)
        findings += report.findings
        state = report.state
        if report.is_done:
            return findings, state


def _verify_folder(folder: Path, first: str) -> tuple[list[Finding], ChainState]:
    from tport.engine.audit.check import check_directory
    from tport.engine.audit.files import list_days
    from tport.engine.errors import NotFound

    try:
        if not list_days(folder):
            raise NotFound(
                f"{folder} holds no log",
                hint="name the folder of one log: <data_dir>/auth/audit, or auth/requests",
            )
        state = _begin(first)
        findings: list[Finding] = []
        report: ChainReport | None = None
        while report is None or not report.is_done:
            report = check_directory(folder, state)
            findings += report.findings
            state = report.state
    except OSError as problem:
        raise NotFound(f"{folder} can't be read: {problem.strerror}") from None
    return findings, state


def _begin(first: str) -> ChainState:
    from tport.engine.types.chain import ChainState

    return ChainState(file=first, is_whole=not first)


# --- Printing ------------------------------------------------------------------------------------

COLUMNS: Final = ("TIME", "EVENT", "USER", "APP", "WHAT")
REQUEST_COLUMNS: Final = (
    "TIME",
    "USER",
    "APP",
    "STATUS",
    "METHOD",
    "PATH",
    "MS",
    "IN",
    "OUT",
    "FROM",
)


def row(event: Mapping[str, Any]) -> list[str]:
    """Return an event's columns; all that has none stands in the last."""
    what = [f"{key}={_word(value)}" for key, value in event.items() if key not in TOLD]
    return [
        str(event.get("time", "")),
        str(event.get("event", "")),
        str(event.get("user", "")),
        str(event.get("app_name", "")),
        " ".join(what),
    ]


def request_row(event: Mapping[str, Any]) -> list[str]:
    """Return the columns of a request."""
    names = (
        "time",
        "user",
        "app_name",
        "status_code",
        "method",
        "path",
        "duration_ms",
        "bytes_in",
        "bytes_out",
        "addr.remote",
    )
    return [str(event.get(name, "")) for name in names]


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _print_event(event: Mapping[str, Any], format: Format) -> None:
    if format is Format.yaml:
        print_value([dict(event)], format)
        return
    import json

    print_out(json.dumps(event))


def _tell(name: str, findings: list[Finding], state: ChainState) -> None:
    for finding in findings:
        if finding.is_fault:
            print_out(printable(f"{name}: {finding.where}: {finding.kind}: {finding.text}"))
        else:
            say(printable(f"{name}: {finding.where}: {finding.text}"))
    faults = sum(finding.is_fault for finding in findings)
    if not faults:
        say(f"{name}: {state.lines} lines, each as it was written")
    else:
        many = "1 place is" if faults == 1 else f"{faults} places are"
        say(f"{name}: {state.lines} lines, and {many} not as written")


def _as_value(name: str, checked: tuple[list[Finding], ChainState]) -> dict[str, object]:
    findings, state = checked
    return {
        "log": name,
        "ok": not any(finding.is_fault for finding in findings),
        "lines": state.lines,
        "findings": [
            {
                "kind": finding.kind,
                "fault": finding.is_fault,
                "where": finding.where,
                "text": finding.text,
            }
            for finding in findings
        ],
    }
