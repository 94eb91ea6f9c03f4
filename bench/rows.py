"""What is measured: each row is a kind of work, done to some stacks one after the other."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench import curl, h2load, websockets, wrk
from bench.cpu import cpu_seconds, memory
from bench.idle import idle_connections
from bench.stack import Stack
from tests.e2e.harness import TPORT

CONNECTIONS: Final = 64
MIB: Final = 1 << 20
BROWSER: Final = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Cache-Control: max-age=0",
    "Dnt: 1",
    "Priority: u=0, i",
    "Referer: https://bench.tport.localhost/dashboards",
    'Sec-Ch-Ua: "Chromium";v="140", "Not=A?Brand";v="24"',
    "Sec-Ch-Ua-Mobile: ?0",
    'Sec-Ch-Ua-Platform: "Linux"',
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-User: ?1",
    "Upgrade-Insecure-Requests: 1",
    "X-Requested-With: XMLHttpRequest",
    "X-Grafana-Org-Id: 1",
)
FILLER: Final = "prefs=" + "p" * 900  # a cookie of the application's, to 1 KiB in all

Figures = Mapping[str, float]  # what is measured → value; the unit stands in the name


@dataclass(frozen=True)
class Effort:
    """How much is done for one figure.

    Attributes:
        seconds: of load.
        bulk, far: bytes of a transfer, and of one over a line of 50 ms.
        idle: connections that rest.
    """

    folder: Path
    seconds: float = 3.0
    bulk: int = 1024 * MIB
    far: int = 256 * MIB
    idle: int = 2000


class _Meter:
    """Counts the CPU that a stack uses while a block runs, in seconds."""

    cpu = 0.0


@contextmanager
def _metered(stack: Stack) -> Iterator[_Meter]:
    meter = _Meter()
    before = cpu_seconds(stack.pids())
    yield meter
    meter.cpu = cpu_seconds(stack.pids()) - before


def _requests(
    stack: Stack,
    effort: Effort,
    *,
    connections: int = CONNECTIONS,
    more: tuple[str, ...] = (),
    cookies: str = "",
    script: str = "",
) -> Figures:
    headers = tuple(
        f"{line}; {cookies}" if cookies and line.startswith("Cookie:") else line
        for line in stack.pages.headers
    )
    with _metered(stack) as used:
        load = wrk.run(
            stack.pages,
            headers=(*headers, *more),
            connections=connections,
            seconds=effort.seconds,
            folder=effort.folder,
            script=script,
        )
    return {
        "CPU us/req": used.cpu / load.requests * 1e6,
        "req/s": load.requests / load.seconds,
        "p50 ms": load.p50,
        "p99 ms": load.p99,
    }


def _in_turns(stack: Stack, effort: Effort) -> Figures:
    """Measure requests of all sessions, less the CPU that the stack uses without any."""
    with _metered(stack) as idle:
        time.sleep(effort.seconds / 2)
    found = _requests(stack, effort, script=wrk.taking_turns(stack.cookies))
    resting = idle.cpu / (effort.seconds / 2)
    each = found["CPU us/req"] - resting / found["req/s"] * 1e6
    return {**found, "CPU us/req": each, "idle CPU ms/s": resting * 1e3}


def _paced(stack: Stack, effort: Effort, *, rate: float) -> Figures:
    with _metered(stack) as used:
        waits = h2load.run(
            stack.pages, rate=rate, connections=8, seconds=effort.seconds, folder=effort.folder
        )
    return {
        "p99 ms": waits.percentile(99),
        "p50 ms": waits.percentile(50),
        "CPU us/req": used.cpu / len(waits.each) * 1e6,
    }


def _beside(stack: Stack, effort: Effort, *, rate: float) -> Figures:
    with curl.downloading(stack.pages):
        time.sleep(0.3)  # until it is at full speed
        waits = h2load.run(
            stack.pages, rate=rate, connections=8, seconds=effort.seconds, folder=effort.folder
        )
    return {"p99 ms": waits.percentile(99), "p50 ms": waits.percentile(50)}


def _transfer(
    stack: Stack, effort: Effort, *, direction: curl.Direction, streams: int = 1, far: bool = False
) -> Figures:
    size = effort.far if far else effort.bulk
    door = stack.pages if direction == "down" else stack.origin
    with _metered(stack) as used:
        moved = curl.run(door, direction, size=size, streams=streams, folder=effort.folder)
    mega = moved.size / 1e6
    figures = {"MB/s": mega / moved.seconds}
    return figures if far else {**figures, "CPU ms/MB": used.cpu * 1e3 / mega}


def _websockets(stack: Stack, effort: Effort) -> Figures:
    with _metered(stack) as used:
        trips = websockets.run(stack.origin, effort.seconds)
    return {"trips/s": trips.count / trips.seconds, "CPU us/trip": used.cpu / trips.count * 1e6}


def _memory(stack: Stack, effort: Effort) -> Figures:
    before = memory(stack.pids())
    with idle_connections(stack.pages, effort.idle):
        grown = memory(stack.pids()) - before
    return {"idle MiB": before / MIB, "KiB/connection": grown / effort.idle / 1024}


def _resident(stack: Stack, _effort: Effort) -> Figures:
    return {"MiB": memory(stack.pids()) / MIB}


def _commands(_stack: Stack, _effort: Effort) -> Figures:
    return {"version ms": _cpu_of("version"), "--help ms": _cpu_of("--help")}


def _cpu_of(argument: str) -> float:
    """Return the CPU ms of a command, the better of three."""
    return min(_child_ms(argument) for _ in range(3))


def _child_ms(argument: str) -> float:
    process = subprocess.Popen([TPORT, argument], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return (usage.ru_utime + usage.ru_stime) * 1e3


@dataclass(frozen=True)
class Row:
    """`measure` does the work once.

    Attributes:
        lead: the figure by which tport is compared to the others.
        stacks: names, tport's own first.
        once: not done again in further rounds: it does not vary, or is of fresh processes only.
        crowd: done with a cluster of its own, at last.
    """

    title: str
    measure: Callable[[Stack, Effort], Figures]
    stacks: tuple[str, ...]
    lead: str = "CPU us/req"
    is_more_better: bool = False
    once: bool = False
    crowd: bool = False


SSH: Final = "nginx + ssh -R"
_TUNNELS: Final = ("tport", SSH)
_FEW: Final = (*_TUNNELS, "Caddy")
_MOST: Final = (*_FEW, "nginx")
_FAR: Final = ("tport, far", f"{SSH}, far", "TCP copy, far")
_CROWD: Final = ("tport, crowded", "tport")


def _bulk(title: str, direction: curl.Direction, streams: int) -> Row:
    measure = partial(_transfer, direction=direction, streams=streams)
    return Row(title, measure, _MOST, lead="MB/s", is_more_better=True)


def _far(title: str, direction: curl.Direction) -> Row:
    measure = partial(_transfer, direction=direction, far=True)
    return Row(title, measure, _FAR, lead="MB/s", is_more_better=True)


ROWS: Final[Mapping[str, Row]] = {
    "memory": Row(
        "memory: idle, and of each idle TLS connection",
        _memory,
        _FEW,
        lead="idle MiB",
        once=True,
    ),
    "get": Row(
        "1 KiB GET, 64 kept connections",
        _requests,
        (*_FEW, "Caddy, no log", "mitmproxy", "nginx", "haproxy"),
    ),
    "browser": Row(
        "the same with a browser's 20 lines and 1 KiB of cookies",
        partial(_requests, more=BROWSER, cookies=FILLER),
        _FEW,
    ),
    "varied": Row(
        "the same, each request another path, query, trace, referer",
        partial(_requests, more=BROWSER[:10], script=wrk.VARIED),
        _FEW,
    ),
    "many": Row(
        "1 KiB GET, 1,000 kept connections",
        partial(_requests, connections=1000),
        _FEW,
        lead="req/s",
        is_more_better=True,
    ),
    "tls": Row("a new TLS connection for each GET", partial(_requests, script=wrk.CLOSING), _MOST),
    "paced": Row("400 req/s over 8 connections", partial(_paced, rate=400), _FEW, lead="p99 ms"),
    "beside": Row(
        "400 req/s over 8 connections beside a download without end",
        partial(_beside, rate=400),
        _FEW,
        lead="p99 ms",
    ),
    "latency": Row(
        "100 req/s over 8 connections",
        partial(_paced, rate=100),
        (*_FEW, "application"),
        lead="p50 ms",
    ),
    "download": _bulk("download, one stream", "down", 1),
    "upload": _bulk("upload, one stream", "up", 1),
    "download-8": _bulk("download, 8 streams", "down", 8),
    "upload-8": _bulk("upload, 8 streams", "up", 8),
    "websocket": Row(
        "WebSocket messages of 64 bytes there and back, 64 connections",
        _websockets,
        (*_MOST, "mitmproxy", "haproxy"),
        lead="trips/s",
        is_more_better=True,
    ),
    "download-far": _far("download, agent and proxy 50 ms apart", "down"),
    "upload-far": _far("upload, agent and proxy 50 ms apart", "up"),
    "commands": Row(
        "CPU of tport's own commands", _commands, ("tport",), lead="version ms", once=True
    ),
    "crowd-memory": Row(
        "memory with 1,000 applications, 100 agents and 10,000 sessions",
        _resident,
        _CROWD,
        lead="MiB",
        once=True,
        crowd=True,
    ),
    "crowd": Row(
        "1 KiB GET with 1,000 applications, 10,000 sessions, 100 agents; and with 1 of each",
        _in_turns,
        _CROWD,
        crowd=True,
    ),
}
