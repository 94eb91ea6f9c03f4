"""Chains of servers with tport in them, that write down where each thinks a message ends.

async with direct(folder) as chain:
    said = await converse(chain, pieces, ...)
    assert chain.application() == [...]
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from tests.e2e.harness import need, until_it_listens
from tests.ports import free_port
from tests.security.plain_http import Doubtful, Request, Unfinished, read_request
from tests.stack import Stack, open_stack
from tport.engine.types.app import App

ROOT = Path(__file__).parents[2]
PROGRAMS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
QUIET = 0.5  # s without a word from a front, after which it waits for more of a request
PAUSE = 0.02  # s between the pieces of an input


class Recorder:
    """An application that takes plain HTTP, once each, and nothing else.

    Attributes:
        seen: the requests that came whole.
        halves: what came of those that were cut.
        odd: what was no plain HTTP; tport never writes that.
    """

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.halves: list[bytes] = []
        self.odd: list[bytes] = []

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname()[1])
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream: trio.SocketStream) -> None:
        data = b""
        async with stream:
            try:
                while more := await stream.receive_some(65536):
                    data = await self._answer(stream, data + more)
            except Doubtful:
                self.odd.append(data)
                return
            except trio.BrokenResourceError:
                pass  # whoever asked has gone
        if data:
            self.halves.append(data)

    async def _answer(self, stream: trio.SocketStream, data: bytes) -> bytes:
        """Answer the whole requests in `data`; return the rest."""
        while data:
            try:
                read = read_request(data, None)
            except Unfinished:
                break
            self.seen.append(read.request)
            data = read.rest
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Seen: %b\r\n\r\n" % read.request.target
            )
        return data


Connect = Callable[[], Awaitable[trio.abc.Stream]]


@dataclass
class Chain:
    """A way from a client to an application.

    Attributes:
        host: what the client's Host says.
        application: what the last server of the chain was asked, so far.
        front: what the first one passed on in its own words; None: tport is the first.
        recorder: the application itself, where it is ours.
    """

    connect: Connect
    host: str
    cookie: str
    application: Callable[[], list[Request]]
    front: Callable[[], list[Request]] | None = None
    recorder: Recorder | None = None


def served(said: bytes) -> list[bytes]:
    """Return the targets that the application says it was asked for, in an answer's bytes."""
    return re.findall(rb"(?i)\r\nx-seen: ([^\r]*)\r\n", said)


async def converse(
    chain: Chain, pieces: Sequence[bytes], is_over: Callable[[bytes], bool], quiet: float
) -> bytes:
    """Send the pieces, and return what is said until `is_over` or nothing came for `quiet` s."""
    said = b""
    stream = await chain.connect()
    try:
        for piece in pieces:
            await stream.send_all(piece)
            if len(pieces) > 1:
                await trio.sleep(PAUSE)  # other processes read: in real time
        while not is_over(said):
            with trio.move_on_after(quiet):
                more = await stream.receive_some(65536)
                if not more:
                    break
                said += more
                continue
            break
    except trio.BrokenResourceError:
        pass  # it was closed before all was sent, or read
    finally:
        await trio.aclose_forcefully(stream)
    return said


# --- The chains ------------------------------------------------------------------------------------


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[Recorder, int]]:
    """Run a recorder; give it with its port."""
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        yield recorder, await nursery.start(recorder.run)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def tport_before(port: int) -> AsyncIterator[tuple[Stack, Chain]]:
    """Run a cluster whose application listens at this port; give a chain to it for alice."""
    app = App(name="app", uri=f"http://127.0.0.1:{port}")
    async with open_stack(apps=[app], debug_app=False, drain=False) as stack:
        alice = await stack.user("alice")
        await alice.open("app")
        host = stack.host("app")

        async def connect() -> trio.abc.Stream:
            return await stack.connect(host)

        yield stack, Chain(connect, f"{host}:{stack.port}", alice.cookie("app"), list)


@asynccontextmanager
async def direct(folder: Path) -> AsyncIterator[Chain]:
    """Client, tport, application."""
    async with recording() as (recorder, port), tport_before(port) as (_, chain):
        yield replace(chain, application=lambda: recorder.seen, recorder=recorder)


@asynccontextmanager
async def behind_nginx(folder: Path) -> AsyncIterator[Chain]:
    """Client, nginx, tport, application. nginx keeps its connections to tport."""
    async with recording() as (recorder, app), tport_before(app) as (stack, chain):
        to_tport = f"""
          proxy_pass https://upstream;
          proxy_set_header Host $http_host;
          proxy_ssl_server_name on;
          proxy_ssl_name {stack.host("app")};"""
        async with nginx(folder, stack.port, to_tport) as (port, noted):
            yield replace(
                chain,
                connect=partial(trio.open_tcp_stream, "127.0.0.1", port),
                application=lambda: recorder.seen,
                front=noted,
                recorder=recorder,
            )


@asynccontextmanager
async def behind_haproxy(folder: Path) -> AsyncIterator[Chain]:
    """Client, HAProxy, tport, application. HAProxy lets clients share connections to tport."""
    program = shutil.which("haproxy", path=PROGRAMS)
    need("haproxy", program, "make test-deps installs it")
    port, log, file = free_port(), folder / "noted", folder / "haproxy.cfg"
    async with recording() as (recorder, app), tport_before(app) as (stack, chain):
        file.write_text(
            HAPROXY.format(port=port, upstream=stack.port, server_name=stack.host("app"))
        )
        argv = [str(program), "-db", "-f", str(file)]
        async with running(argv, port, output=log):
            yield replace(
                chain,
                connect=partial(trio.open_tcp_stream, "127.0.0.1", port),
                application=lambda: recorder.seen,
                front=lambda: _haproxy_noted(log),
                recorder=recorder,
            )


@asynccontextmanager
async def before_nginx(folder: Path) -> AsyncIterator[Chain]:
    """Client, tport, nginx, application."""
    async with (
        recording() as (recorder, app),
        nginx(folder, app, "proxy_pass http://upstream;", patience=60) as (port, noted),
        tport_before(port) as (_, chain),
    ):
        yield replace(chain, application=noted, recorder=recorder)


@asynccontextmanager
async def before_waitress(folder: Path) -> AsyncIterator[Chain]:
    """Client, tport, waitress, application."""
    module = "tests.security.recording_apps:wsgi"
    async with _before_python(folder, "waitress", "--listen=127.0.0.1:PORT", module) as chain:
        yield chain


@asynccontextmanager
async def before_uvicorn(folder: Path) -> AsyncIterator[Chain]:
    """Client, tport, uvicorn with Node's parser (llhttp), application."""
    module = "tests.security.recording_apps:asgi"
    quiet = ("--log-level=warning", "--http=httptools", "--ws=none", "--lifespan=off")
    async with _before_python(folder, "uvicorn", "--port=PORT", *quiet, module) as chain:
        yield chain


@asynccontextmanager
async def _before_python(folder: Path, *module: str) -> AsyncIterator[Chain]:
    port, records = free_port(), folder / "noted"
    records.touch()
    argv = [sys.executable, "-m", *(arg.replace("PORT", str(port)) for arg in module)]
    env = {**os.environ, "RECORDS": str(records)}

    def noted() -> list[Request]:
        lines = map(json.loads, records.read_text().splitlines())
        return [Request(m.encode(), t.encode("latin-1"), bytes.fromhex(b)) for m, t, b in lines]

    async with running(argv, port, env=env), tport_before(port) as (_, chain):
        yield replace(chain, application=noted)


# --- Their servers ---------------------------------------------------------------------------------


@asynccontextmanager
async def running(
    argv: Sequence[str], port: int, *, output: Path | None = None, env: dict[str, str] | None = None
) -> AsyncIterator[None]:
    """Run a server until the block ends; it begins once the server listens."""
    with (output or Path(os.devnull)).open("wb") as stdout:
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(trio.run_process, argv, stdout=stdout, env=env, cwd=ROOT, check=False)
            )
            await until_it_listens(port)
            yield
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def nginx(
    folder: Path, upstream: int, passing: str, *, patience: int = 1
) -> AsyncIterator[tuple[int, Callable[[], list[Request]]]]:
    """Run nginx before a port; give its own, and what tells which requests it passed on.

    Args:
        patience: s for a head, and between two pieces of a body. Behind tport it takes more than
            the busiest machine may halt us between dialling and asking: to a client that sends a
            POST, nginx's hanging up is a 502, as it may have been carried out.
    """
    program = shutil.which("nginx", path=PROGRAMS)
    need("nginx", program, "make test-deps installs it")
    port, log, file = free_port(), folder / "noted", folder / "nginx.conf"
    file.write_text(
        NGINX.format(
            folder=folder,
            port=port,
            upstream=upstream,
            passing=passing,
            log=log,
            patience=patience,
        )
    )
    async with running([str(program), "-p", str(folder), "-c", str(file)], port):
        yield port, lambda: _nginx_noted(log)


def _nginx_noted(log: Path) -> list[Request]:
    lines = [json.loads(line) for line in log.read_bytes().decode("latin-1").split("\n")[:-1]]
    return [
        Request(*(line[part].encode("latin-1") for part in ("method", "target", "body")))
        for line in lines
        if line["asked"]  # of whom it passed the request on to
    ]


def _haproxy_noted(log: Path) -> list[Request]:
    found = []
    for line in log.read_bytes().decode("latin-1").split("\n")[:-1]:
        parts = line.split(" ")
        if len(parts) == 4 and parts[0] == "noted":
            found.append(Request(*(b64decode("" if part == "-" else part) for part in parts[1:])))
    return found


NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/errors warn;
events {{ worker_connections 256; }}
http {{
  log_format noted escape=json
    '{{"method":"$request_method","target":"$request_uri","body":"$request_body","asked":"$upstream_addr"}}';
  access_log {log} noted;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_body_buffer_size 64k;
  client_header_timeout {patience}s;
  client_body_timeout {patience}s;
  upstream upstream {{ server 127.0.0.1:{upstream}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      {passing}
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""

HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  timeout http-request 1s
frontend clients
  bind 127.0.0.1:{port}
  log stdout format raw local0
  option http-buffer-request
  http-request set-var(txn.method) method,base64
  http-request set-var(txn.target) url,base64
  http-request set-var(txn.body) req.body,base64
  log-format "noted %[var(txn.method)] %[var(txn.target)] %[var(txn.body)]"
  default_backend tport
backend tport
  http-reuse always
  server tport 127.0.0.1:{upstream} ssl verify none sni str({server_name}) alpn http/1.1
"""
