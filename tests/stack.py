"""A whole cluster in the test's own trio run: auth, proxy and agent over real sockets, and apps.

    async with open_stack() as stack:
        alice = await stack.user("alice", roles=("access",))
        answer = await alice.get("echo", "/path")

Requests are written byte by byte by the test's own client, so that it may also write wrong ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec
import pytest
import trio

from tests import canary
from tests.canary import Found, SecretLeakedError, found_in, found_in_files
from tests.hashes import hashes_remembered
from tport.engine.api.answers import SignedIn
from tport.engine.api.protocol import AuthAPI
from tport.engine.config.address import Address
from tport.engine.config.model import (
    Acme,
    AppService,
    AuditLogs,
    AuthService,
    Config,
    ConnectionLimits,
    KeyPair,
    Log,
    ProxyService,
)
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.net.tls_stream import TlsStream
from tport.engine.process import Running, open_process
from tport.engine.proto.forwarded import parse_network
from tport.engine.signals import Signals
from tport.engine.types.app import App, Rewrite
from tport.engine.types.event_query import EventQuery
from tport.engine.types.factor import OFF, FactorPolicy
from tport.engine.types.identity import Identity
from tport.engine.types.role import Role
from tport.engine.types.session import session_id

P = ParamSpec("P")
T = TypeVar("T")

DOMAIN = "tport.localhost"
PASSWORD = canary.PASSWORD
_BELONGS_THERE = re.compile(rb'<(form|input type="hidden") [^>]*>|id="totp-secret">[^<]*')


@dataclass
class Seen:
    """A request as an application saw it."""

    method: bytes
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class EchoApp:
    """An application that remembers what it was asked and answers 200 with the request's body.

    Its agent's look for an icon, in nobody's name, is not found and not remembered: it comes when
    somebody's Applications page was shown, at any time.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started(self.port)
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream: trio.SocketStream) -> None:
        await serve_http1(stream, self.answer)

    async def answer(self, exchange: Exchange) -> None:
        body = bytearray()
        while piece := await exchange.receive_body():
            body += piece
        request = exchange.request
        if any(name == b"user-agent" and b"(icon)" in value for name, value in request.headers):
            await exchange.respond(404, [], b"")
            return
        self.seen.append(Seen(request.method, request.target, request.headers, bytes(body)))
        await exchange.respond(200, [(b"content-type", b"text/plain")], bytes(body) or b"hello")


Script = Callable[[trio.SocketStream], Awaitable[None]]


class RawApp:
    """An application that answers byte by byte: `script` runs for each connection to it.

    A script that reads with `take_head` leaves the heads in `heads`, and `connections` counts those
    that brought one: the agent connects, and hangs up, to see whether the application is there.
    """

    def __init__(self) -> None:
        self.script: Script = self.hang_up
        self.heads: list[bytes] = []
        self._asked: set[trio.SocketStream] = set()
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started(self.port)
        await trio.serve_listeners(self._serve, [listener])

    @property
    def connections(self) -> int:
        return len(self._asked)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await self.script(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # cut, as some tests want it

    async def hang_up(self, stream: trio.SocketStream) -> None:
        """The script of an application that has none."""

    async def take_head(self, stream: trio.SocketStream) -> bytes:
        """Read a head and return it, with what of a body came along."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some(65536)
            if not more:
                return data
            self._asked.add(stream)
            data += more
        self.heads.append(data)
        return data

    def answers(self, answer: bytes) -> None:
        """Answer one request of each connection with these bytes, and hang up."""

        async def script(stream: trio.SocketStream) -> None:
            if await self.take_head(stream):
                await stream.send_all(answer)

        self.script = script


@dataclass
class Answer:
    """An answer as the client read it; header names are lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    closed: bool = False  # the server closed the connection after it

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass
class Person:
    """A user with their cookies."""

    stack: Stack
    name: str
    web: str = ""  # the web session's secret
    apps: dict[str, str] = field(default_factory=dict)  # host → the app session's secret

    async def open(self, app: str) -> None:
        """Get a session for an application by launch and redeem, as a browser would."""
        host = self.stack.host(app)
        state = hashlib.sha256(b"a state").hexdigest()
        code = await self.stack.api.launch(
            web_session=session_id(self.web), host=host, state=state, age=0
        )
        opened = await self.stack.api.redeem(
            code=code.code, state=state, host=host, remote="127.0.0.1"
        )
        self.apps[host] = opened.secret

    def cookie(self, app: str) -> str:
        return f"{self.stack.app_cookie}={self.apps[self.stack.host(app)]}"

    async def get(self, app: str, target: str = "/", **headers: str) -> Answer:
        """GET with this person's session for the application, opened when there is none."""
        host = self.stack.host(app)
        if host not in self.apps:
            await self.open(app)
        return await self.stack.request(host, target, {"Cookie": self.cookie(app), **headers})


class Stack:
    """See the module."""

    def __init__(
        self, running: Running, echo: EchoApp, raw_app: RawApp, signals: Signals, file: list[Config]
    ) -> None:
        assert running.admin is not None
        assert running.auth is not None
        self.running = running
        self.admin = running.admin
        self.auth = running.auth
        self.echo = echo
        self.raw_app = raw_app
        self.stop = signals.stop
        self._signals = signals
        self._file = file  # what the configuration's file says, in the last element
        self.port = running.config.proxy_service.public_addrs[0].port
        cluster = running.config.auth_service.cluster_name
        identity = Identity(kind="proxy", name="test", cluster=cluster)
        self.api: AuthAPI = running.auth.as_caller(identity, "127.0.0.1")
        id8 = hashlib.sha256(self.auth.authorities.host[0].encode()).hexdigest()[:8]
        self.app_cookie = f"__Host-tport_app_{id8}"
        self.web_cookie = f"__Host-tport_web_{id8}"
        self.ca = "".join(self.auth.authorities.web)
        self.refusals: list[tuple[str, Answer]] = []  # of what was asked, and the page

    def leaks(self) -> Iterator[Found]:
        """Yield each secret where none may be: on disk, on a page of errors, in what applications were sent.

        But for what the page's own form sends back, and where; for the key that somebody sets up by it; for addresses that lead on: the way into an
        application goes by a code, which is worth nothing without a cookie; and for JWTs that applications
        are meant to get.
        """
        yield from found_in_files(self.running.config.data_dir)
        for asked, answer in self.refusals:
            shown = [
                value for name, value in answer.headers if name not in ("set-cookie", "location")
            ]
            page = _BELONGS_THERE.sub(b"", answer.body).decode("latin-1")
            yield from found_in("\n".join([*shown, page]), f"the answer {answer.status} to {asked}")
        for seen in self.echo.seen:
            lines = [b"%b: %b" % header for header in seen.headers]
            text = b"\n".join([seen.target, *lines]).decode("latin-1")
            found = found_in(text, "what the application was sent")
            yield from (each for each in found if each.kind != "jwt")

    @property
    def proxy_url(self) -> str:
        return f"https://{DOMAIN}:{self.port}"

    def host(self, app: str) -> str:
        named = self.running.config.app_service.apps
        own = [each.public_addr for each in named if each.name == app and each.public_addr]
        return own[0] if own else f"{app}.{DOMAIN}"

    def url(self, app: str, target: str = "/") -> str:
        return f"https://{self.host(app)}:{self.port}{target}"

    async def user(
        self,
        name: str,
        *,
        roles: tuple[str, ...] = ("access",),
        traits: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Person:
        """Make a user who has chosen a password and is signed in to tport."""
        made = await self.admin.create_user(name=name, roles=roles, traits=traits or {})
        signed = await self.api.accept_invite(
            token=made.url.rpartition("/")[2],
            password=PASSWORD,
            remote="127.0.0.1",
            user_agent="test",
        )
        assert isinstance(signed, SignedIn)
        return Person(self, name, web=signed.secret)

    async def outsider(self, name: str) -> Person:
        """Make a user whose role opens nothing."""
        await self.admin.put_role(role=Role(name="nothing"))
        return await self.user(name, roles=("nothing",))

    async def events(self, *types: str) -> Sequence[Mapping[str, object]]:
        """Return the audit events of these types so far; none named: all."""
        query = EventQuery(types=types)
        return (await self.admin.search_events(query=query, cursor="", limit=1000)).events

    async def diagnose(self, path: str, *, method: str = "GET", accept: str = "*/*") -> Answer:
        """Ask the diagnostics' own address."""
        address = self.running.config.diag_addr
        assert address is not None
        async with await trio.open_tcp_stream(address.host, address.port) as client:
            head = f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n"
            await client.send_all(head.encode())
            return await read_answer(client, method=method)

    async def requests(self, **wanted: object) -> Sequence[Mapping[str, object]]:
        """Wait until a request with these fields is in the log of requests; return all there are."""
        found: Sequence[Mapping[str, object]] = ()
        query = EventQuery(log="requests")
        with trio.move_on_after(20):
            while True:
                found = (await self.admin.search_events(query=query, cursor="", limit=1000)).events
                if any(wanted.items() <= each.items() for each in found):
                    return found
                await trio.sleep(0.01)  # it is on its way from the proxy, in real time
        raise AssertionError(f"no request with {wanted}, only {found}")

    async def event(self, type_: str, **fields: object) -> Mapping[str, object]:
        """Wait for an audit event of this type with these fields, and return it."""
        found: Sequence[Mapping[str, object]] = ()
        with trio.move_on_after(20):
            while True:
                found = await self.events(type_)
                for each in found:
                    if fields.items() <= each.items():
                        return each
                await trio.sleep(0.01)  # it is on its way from a proxy or an agent, in real time
        raise AssertionError(f"no {type_} with {fields}, only {found}")

    def reload(self, service: AppService) -> None:
        """Have the file say this of applications from now on, and send SIGHUP."""
        self._file.append(msgspec.structs.replace(self._file[0], app_service=service))
        self._signals.reload.set()
        self._signals.reload = trio.Event()

    def files(self) -> str:
        """Return all that auth, proxy and agent have on disk, the audit log too, as one text."""
        folder = self.running.config.data_dir
        return "\n".join(
            path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()
        )

    # --- The client ----------------------------------------------------------------------------

    def context(
        self, *, alpn: Sequence[str] = ("http/1.1",), verify: bool = True
    ) -> ssl.SSLContext:
        """A browser's context that trusts the cluster's web authority and nothing else.

        `verify=False`: an attacker's, who doesn't mind what the proxy shows.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.ca)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    async def connect(
        self, server_name: str | None, *, context: ssl.SSLContext | None = None
    ) -> TlsStream:
        """Open a TLS connection to the proxy with this SNI.

        For a name that isn't below the proxy's, the cluster's own authority vouches for nobody.
        """
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        if context is None:
            context = self.context(verify=not server_name or DOMAIN in server_name)
            if server_name is None:
                context.check_hostname = False
        tls = TlsStream(
            stream, context, server_side=False, server_name=server_name, ragged_end=True
        )
        try:
            await tls.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return tls

    async def request(
        self,
        host: str,
        target: str = "/",
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes = b"",
        server_name: str | None = None,
        context: ssl.SSLContext | None = None,
    ) -> Answer:
        """Send one well-formed request on a connection of its own."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        raw = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        return await self.raw(server_name or host, raw, method=method, context=context)

    async def raw(
        self,
        server_name: str | None,
        data: bytes,
        *,
        method: str = "GET",
        context: ssl.SSLContext | None = None,
    ) -> Answer:
        """Send bytes and read one answer."""
        with trio.fail_after(20):
            tls = await self.connect(server_name, context=context)
            try:
                await tls.send_all(data)
                answer = await read_answer(tls, method=method)
                if answer.status >= 400:
                    asked = data.partition(b"\r\n")[0].decode("latin-1")
                    self.refusals.append((asked, answer))
                return answer
            finally:
                await trio.aclose_forcefully(tls)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Read until the other side closes."""
    data = b""
    while more := await stream.receive_some(65536):
        data += more
    return data


async def read_answer(stream: trio.abc.ReceiveStream, *, method: str = "GET") -> Answer:
    """Read one answer with plain means, not the product's own reader."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(65536)
        if not more:
            raise EOFError(f"the connection ended after {data!r}")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((name.lower(), value.strip()))
    answer = Answer(int(status_line.split()[1]), headers, b"")
    if 100 <= answer.status < 200 and answer.status != 101:
        answer.body = rest
        return answer
    if method == "HEAD" or answer.status in (101, 204, 304):
        answer.body = rest
        return answer
    if (length := answer.header("content-length")) != "":
        while len(rest) < int(length):
            more = await stream.receive_some(65536)
            if not more:
                raise EOFError("the answer was cut short")
            rest += more
        answer.body = rest
    elif answer.header("transfer-encoding") == "chunked":
        while not rest.endswith(b"0\r\n\r\n"):
            more = await stream.receive_some(65536)
            if not more:
                raise EOFError("the answer was cut short")
            rest += more
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            answer.body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
    else:
        while more := await stream.receive_some(65536):
            rest += more
        answer.body = rest
    answer.closed = answer.header("connection") == "close"
    return answer


def without_secrets(page: bytes) -> bytes:
    """Leave out what differs on each page: its form's token and sealed state."""
    return re.sub(rb'(name="(?:token|state)" value=)"[^"]+"', rb"\1", page)


def _failing_as_its_block(
    opened: Callable[P, contextlib.AbstractAsyncContextManager[T]],
) -> Callable[P, contextlib.AbstractAsyncContextManager[T]]:
    """Raise what the block raises, though leaving cancels: what that raises would stand for it, and be lost."""

    @asynccontextmanager
    async def made(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        failed: BaseException | None = None
        async with opened(*args, **kwargs) as value:
            try:
                yield value
            except (Exception, BaseExceptionGroup, pytest.fail.Exception) as problem:
                failed = problem
                raise
        if failed is not None:
            raise failed

    return made


@_failing_as_its_block
@asynccontextmanager
async def open_stack(
    *,
    apps: Sequence[App] = (),
    rewrite: Rewrite = Rewrite(),
    labels: Mapping[str, str] | None = None,
    debug_app: bool = True,
    drain: bool = True,
    trusted_proxies: Sequence[str] = (),
    proxy_protocol: bool = False,
    audit: AuditLogs = AuditLogs(),
    acme: Acme = Acme(),
    key_pairs: Sequence[KeyPair] = (),
    domain: str = DOMAIN,
    port: int = 0,
    resources: Sequence[Mapping[str, tuple[str, ...]]] = (),
    second_factor: FactorPolicy = OFF,
    diagnostics: bool = False,
    workers: int = 1,
    limits: ConnectionLimits = ConnectionLimits(),
) -> AsyncIterator[Stack]:
    """Run a cluster with the applications `echo` and `raw` (see RawApp), the debug app, and `apps`.

    Args:
        domain: the proxy's name; its `port`, 0 for a free one.
        drain: stop as SIGTERM does; else cancel everything, which is quicker.
        resources: labels of the applications that the agent picks up.
        diagnostics: serve them; see `Stack.diagnose`.
        workers: more than one are processes of their own, and see no clock and no patch of the test's.
    """
    echo, raw_app = EchoApp(), RawApp()
    with tempfile.TemporaryDirectory(prefix="tport-") as folder, hashes_remembered():
        async with trio.open_nursery() as nursery:
            signals = Signals()
            app = App(
                name="echo",
                uri=f"http://127.0.0.1:{await nursery.start(echo.run)}",
                rewrite=rewrite,
                labels=labels or {},
            )
            raw = App(name="raw", uri=f"http://127.0.0.1:{await nursery.start(raw_app.run)}")
            config = Config(
                data_dir=Path(folder),
                nodename="testhost",
                log=Log(),
                diag_addr=Address("127.0.0.1", 0) if diagnostics else None,
                auth_service=AuthService(
                    enabled=True,
                    listen_addr=Address("127.0.0.1", 0),
                    listen_is_given=True,
                    cluster_name=DOMAIN,
                    audit=audit,
                    second_factor=second_factor,
                ),
                proxy_service=ProxyService(
                    enabled=True,
                    web_listen_addr=Address("127.0.0.1", port),
                    public_addrs=(Address(domain, port),),
                    public_is_given=False,
                    trusted_proxies=tuple(map(parse_network, trusted_proxies)),
                    proxy_protocol=proxy_protocol,
                    acme=acme,
                    https_keypairs=tuple(key_pairs),
                    workers=workers,
                    limits=limits,
                ),
                app_service=AppService(
                    enabled=True,
                    debug_app=debug_app,
                    apps=(app, raw, *apps),
                    resources=tuple(resources),
                ),
            )
            file = [config]
            process = open_process(config, signals.stop, signals, lambda: file[-1])
            async with process as running:
                stack = Stack(running, echo, raw_app, signals, file)
                try:
                    yield stack
                finally:
                    signals.stop.set()
                    if not drain:
                        nursery.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
        if found := list(stack.leaks()):
            raise SecretLeakedError(found)
