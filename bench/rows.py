"""What is measured: each row is a kind of work, done to one stack for some seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import wrk
from bench.cpu import cpu_seconds
from bench.stacks import Stack

CONNECTIONS: Final = 64
SECONDS: Final = 3.0  # of one round
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


def _requests(
    stack: Stack,
    folder: Path,
    *,
    connections: int = CONNECTIONS,
    more: tuple[str, ...] = (),
    cookies: str = "",
    script: str = "",
) -> Figures:
    headers = tuple(
        f"{line}; {cookies}" if cookies and line.startswith("Cookie:") else line
        for line in stack.headers
    )
    before = cpu_seconds(stack.pids())
    load = wrk.run(
        host=stack.host,
        port=stack.port,
        headers=(*headers, *more),
        connections=connections,
        seconds=SECONDS,
        folder=folder,
        requests=script,
    )
    used = cpu_seconds(stack.pids()) - before
    return {
        "CPU us/req": used / load.requests * 1e6,
        "req/s": load.requests / load.seconds,
        "p50 ms": load.p50,
        "p99 ms": load.p99,
    }


@dataclass(frozen=True)
class Row:
    """`measure` does the work once, one round. `lead`: the figure that the table shows first."""

    title: str
    measure: Callable[[Stack, Path], Figures]
    lead: str = "CPU us/req"


ROWS: Final[Mapping[str, Row]] = {
    "get": Row("1 KiB GET, 64 kept connections", _requests),
    "browser": Row(
        "the same with a browser's 20 lines and 1 KiB of cookies",
        lambda stack, folder: _requests(stack, folder, more=BROWSER, cookies=FILLER),
    ),
    "varied": Row(
        "the same, each request another path, query, trace, referer",
        lambda stack, folder: _requests(stack, folder, more=BROWSER[:10], script=wrk.VARIED),
    ),
    "many": Row(
        "1 KiB GET, 1,000 kept connections",
        lambda stack, folder: _requests(stack, folder, connections=1000),
    ),
    "tls": Row(
        "a new TLS connection for each GET",
        lambda stack, folder: _requests(stack, folder, script=wrk.CLOSING),
    ),
}
