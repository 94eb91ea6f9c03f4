"""Requests as fast as they go, by wrk: told where to connect and what to send; its account of what came."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.door import Door, Failed
from bench.parts import program

# wrk looks the host up itself: the script sends it to 127.0.0.1, whatever the name in SNI and Host.
_SCRIPT: Final = """\
function wrk.resolve(host, service) wrk.addrs = wrk.lookup("127.0.0.1", "{port}") end
{requests}
function done(summary, latency, requests)
  io.write(string.format(
    '\\nRESULT {{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "status": %d, "errors": %d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""
# A new path, query, trace and referer for every request, and one of 50 further cookies.
VARIED: Final = """\
local count = 0
function request()
  count = count + 1
  local headers = {}
  for name, value in pairs(wrk.headers) do headers[name] = value end
  headers["Cookie"] = (headers["Cookie"] and headers["Cookie"] .. "; " or "") .. "seen=" .. count % 50
  headers["Traceparent"] = string.format("00-%032x-%016x-01", count, count)
  headers["Referer"] = "https://example.com/" .. count % 500
  return wrk.format("GET", "/item/" .. count .. "?q=" .. count, headers)
end
"""
CLOSING: Final = 'wrk.headers["Connection"] = "close"\n'


@dataclass(frozen=True)
class Load:
    """What wrk found. Latencies in ms."""

    requests: int
    seconds: float
    p50: float
    p99: float


def taking_turns(cookies: Sequence[str]) -> str:
    """Return a script by which each request comes with the next of these Cookie headers."""
    listed = ",\n".join(f'  "{cookie}"' for cookie in cookies)
    return f"""\
local cookies = {{
{listed}
}}
local count = 0
function request()
  count = count + 1
  wrk.headers["Cookie"] = cookies[count % #cookies + 1]
  return wrk.format()
end
"""


def run(
    door: Door,
    *,
    headers: Sequence[str],
    connections: int,
    seconds: float,
    folder: Path,
    script: str = "",
) -> Load:
    """Ask for the page as fast as it goes, over kept connections, from one thread.

    Args:
        headers: header lines, instead of the door's own.

    Raises:
        Failed: what came were not only pages: a figure of errors would be none.
    """
    path = folder / "load.lua"
    path.write_text(_SCRIPT.format(port=door.port, requests=script))
    done = subprocess.run(
        [
            program("wrk"),
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout=10s",
            f"-s{path}",
            *(f"-H{header}" for header in headers),
            door.url(),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    _, _, told = done.stdout.partition("RESULT ")
    if not told:
        raise Failed(f"wrk: {done.stdout}{done.stderr}")
    found = json.loads(told)
    if found["status"] or found["errors"] or not found["requests"]:
        raise Failed(f"not all answers were good: {told.strip()}")
    return Load(found["requests"], found["seconds"], found["p50"], found["p99"])
