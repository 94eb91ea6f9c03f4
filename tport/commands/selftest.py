"""`tport selftest`: the path of a request measured with numbers."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tport.commands.printing import hint, print_rows, print_value, printable, say, warn
from tport.commands.run import settings_of, with_cluster
from tport.commands.settings import Format, FormatOption, Settings
from tport.engine.errors import InvalidRequest, TportError

if TYPE_CHECKING:
    from tport.engine.api.protocol import AuthAPI
    from tport.engine.selftest.figures import Figure
    from tport.engine.selftest.report import Report

app = typer.Typer()

_SIZE: Final = re.compile(r"([0-9]{1,12})\s*(B|KiB|MiB|GiB|KB|MB|GB)?", re.IGNORECASE)
_UNITS: Final = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_UNITS_OF_1000: Final = {"kb": 10**3, "mb": 10**6, "gb": 10**9}
_LARGEST: Final = 2**40  # bytes; an hour's work, and a mistake beyond
_ROUNDS: Final = 200
_ROUNDS_OF_APP: Final = 50  # somebody works with it


@app.command()
def selftest(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="[APP]", help="An application of the running cluster.")
    ] = "",
    size: Annotated[
        str, typer.Option("--size", help="What is sent down, and up: 128MiB. Not with APP.")
    ] = "1GiB",
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds", min=1, max=100_000, help="Requests that are timed: 200; with APP 50."
        ),
    ] = None,
    roles: Annotated[
        str, typer.Option("--roles", help="With APP: the roles of the visitor, parted by commas.")
    ] = "access",
    direct: Annotated[
        bool,
        typer.Option(
            "--direct", help="With APP: ask its uri from here, though its agent is elsewhere."
        ),
    ] = False,
    format: FormatOption = Format.text,
) -> None:
    """Measure the path of a request: what tport adds, what it carries, what it changes.

    Without APP: a cluster to throw away and an application of its own, on this machine. It times
    requests, server-sent events and WebSocket messages, straight and through tport; sends --size
    down and up and watches the memory of proxy and agent; and compares headers. It needs no
    running cluster and touches none.

    With APP: the same visitor goes through the cluster that runs, by its public address, as a
    user made for this and removed afterwards. Nothing but GET of the front page reaches APP. Is
    it slow, or broken? This tells which: tport, or the application. It is asked straight, too, if its
    agent is on this machine; or wherever that is, with --direct, at the address that it names.

    \b
    tport selftest --size=128MiB
    tport selftest grafana

    Exit status 1: something is not as it must be. Being slow is no such thing.
    """  # noqa: D301 - \b keeps the lines below it as they are
    from tport.engine.selftest.stop import Stopped

    _check_together(ctx, name)
    try:
        report = _of_app(ctx, name, rounds, roles, direct=direct) if name else _alone(size, rounds)
    except Stopped as stopped:
        raise typer.Exit(stopped.exit_status) from None
    print_report(report, format)
    if not report.ok:
        raise typer.Exit(1)


def _check_together(ctx: typer.Context, name: str) -> None:
    """Raise InvalidRequest for an option that has no meaning with, or without, APP."""
    wrong = (
        {"size": "nothing large is sent to an application that people use; leave it out"}
        if name
        else {
            "roles": "the visitor of a cluster to throw away may do all; give it with APP",
            "direct": "a cluster to throw away is asked straight in any case; give it with APP",
        }
    )
    for option, why in wrong.items():
        source = ctx.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidRequest(f"--{option}: {why}")


def _alone(size: str, rounds: int | None) -> Report:
    import trio

    from tport.engine.selftest.alone import measure_alone
    from tport.engine.selftest.stop import until_stopped

    count = parse_size(size)

    async def measure() -> Report:
        return await measure_alone(
            size=count, rounds=rounds or _ROUNDS, size_text=size_text(count), tell=_tell
        )

    return trio.run(until_stopped, measure)


def _of_app(
    ctx: typer.Context, name: str, rounds: int | None, roles: str, *, direct: bool
) -> Report:
    from tport.engine.selftest.running import measure_app
    from tport.engine.selftest.stop import until_stopped

    words = tuple(word.strip() for word in roles.split(",") if word.strip())

    async def measure(auth: AuthAPI) -> Report:
        return await until_stopped(
            lambda: measure_app(
                auth,
                name,
                roles=words,
                rounds=rounds or _ROUNDS_OF_APP,
                tell=_tell,
                warn=warn,
                own_host_id=own,
                direct=direct,
            )
        )

    own = _own_host_id(settings_of(ctx))
    return with_cluster(ctx, measure)


def _own_host_id(settings: Settings) -> str:
    """Return the id of the agent that the cluster's process on this machine is; "": none is known."""
    from tport.engine.agent.state import load_state
    from tport.engine.client.connect import find_cluster
    from tport.engine.process import AGENT_DIR

    place = find_cluster(config=settings.config, data_dir=settings.data_dir)
    try:
        state = load_state(place.folder.parent / AGENT_DIR)
    except TportError:  # somebody else's, or faulty; it is not what this is about
        return ""
    return state.host_id if state is not None else ""


def _tell(doing: str) -> None:
    """Say what is being done to a person who waits; a script's log is spared."""
    if sys.stderr.isatty():
        say(f"{doing} …")


# --- Sizes ---------------------------------------------------------------------------------------


def parse_size(text: str) -> int:
    """Return a size in bytes: `8MiB`, `1GiB`, `100MB`, or just bytes.

    Raises:
        InvalidRequest: it is none, or none that can be meant.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InvalidRequest(f"--size: {text!r} is no size; write 128MiB, 1GiB or bytes")
    size = int(found[1]) * (_UNITS | _UNITS_OF_1000)[(found[2] or "").lower()]
    if not 0 < size <= _LARGEST:
        raise InvalidRequest(f"--size: {text!r} is not between 1 byte and 1024GiB")
    return size


def size_text(size: int) -> str:
    """Return a size for people, exactly: 1 GiB, 1500 KiB, 17 bytes."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} byte{'' if size == 1 else 's'}"


# --- Printing ------------------------------------------------------------------------------------


def print_report(report: Report, format: Format) -> None:
    """Print what was found: figures on stdout; what to do about it on stderr."""
    if format is not Format.text:
        print_value(report.value(), format)
        return
    print_rows(
        ("FIGURE", "DIRECT", "TPORT", "ADDED", "RESULT"),
        [
            (
                figure.what,
                _number(figure.direct, figure.unit),
                _number(figure.through, figure.unit),
                _number(figure.added, figure.unit),
                _result(figure),
            )
            for figure in report.figures
        ],
        empty="nothing was measured",
    )
    for line in report.advice:
        hint(printable(line))
    if report.failure is not None and report.failure.request_id:
        request = printable(report.failure.request_id)
        hint(f"the logs of proxy and agent know it as request {request}")
    wrong = sum(figure.ok is False for figure in report.figures)
    say(f"{wrong} of {len(report.figures)} not as it must be" if wrong else "all is well")


def _number(number: float | None, unit: str) -> str:
    if number is None:
        return "-"
    if unit == "status":
        return f"{number:.0f}"
    digits = 2 if abs(number) < 10 else 1 if abs(number) < 100 else 0
    return f"{number:.{digits}f} {unit}"


def _result(figure: Figure) -> str:
    verdict = {True: "ok", False: "NOT OK", None: "not measured"}[figure.ok]
    said = figure.note or (figure.expected if figure.ok else "")
    return f"{verdict}: {said}" if said else verdict
