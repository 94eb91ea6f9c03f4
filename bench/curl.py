"""Downloads and uploads, by curl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bench.door import Door, Failed
from bench.parts import program

Direction = Literal["down", "up"]

PATIENCE: Final = 60.0  # s for one transfer
_MANY: Final = 10_000  # downloads one after the other, until they are ended


@dataclass(frozen=True)
class Transfer:
    """`size` in bytes, all streams together; `seconds` of the slowest, its TLS handshake included."""

    size: int
    seconds: float


def run(door: Door, direction: Direction, *, size: int, streams: int, folder: Path) -> Transfer:
    """Move `size` bytes in all, from /big or to /upload, over `streams` connections at once.

    Raises:
        Failed: one did not come to its end.
    """
    each = size // streams
    started = [_start(_argv(door, direction, each, folder)) for _ in range(streams)]
    slowest, total = 0.0, 0
    for process in started:
        try:
            out, err = process.communicate(timeout=PATIENCE + 10)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        if process.returncode:
            raise Failed(f"curl ended with {process.returncode}: {out}{err}")
        down, up, seconds, status = out.split()
        moved = int(down if direction == "down" else up)
        if not status.startswith("20") or moved != each:
            raise Failed(f"curl: status {status}, {moved} of {each} bytes")
        total += moved
        slowest = max(slowest, float(seconds))
    return Transfer(total, slowest)


@contextmanager
def downloading(door: Door) -> Iterator[None]:
    """Have one connection that downloads without end, until the block ends."""
    process = _start([*_common(door), door.url(f"/big?[1-{_MANY}]")])
    try:
        yield
        if process.poll() is not None:
            raise Failed(f"the download ended: {process.communicate()}")
    finally:
        process.kill()
        process.communicate()


def _start(argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _argv(door: Door, direction: Direction, size: int, folder: Path) -> list[str]:
    told = "%{size_download} %{size_upload} %{time_total} %{http_code}"
    argv = [*_common(door), "--max-time", f"{PATIENCE:g}", "--write-out", told]
    if direction == "down":
        return [*argv, "--range", f"0-{size - 1}", door.url("/big")]
    body = folder / f"body-{size}"
    if not body.exists():
        with body.open("wb") as file:
            file.truncate(size)
        with body.open("rb") as file:  # into memory: the first who is measured would pay for that
            while file.read(1 << 20):
                pass
    return [*argv, "--header", "Expect:", "--upload-file", str(body), door.url("/upload")]


def _common(door: Door) -> list[str]:
    headers = [word for line in door.headers for word in ("--header", line)]
    return [
        program("curl"), "--silent", "--show-error", "--insecure", "--http1.1", "--noproxy", "*",
        "--resolve", f"{door.host}:{door.port}:127.0.0.1", "--output", "/dev/null", *headers,
    ]  # fmt: skip
