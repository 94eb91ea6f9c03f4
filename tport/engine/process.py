"""The composition root: from a configuration to running services, in the order that they need.

What stands further out starts earlier and ends later: a request that drains still finds auth,
and auth its storage. When any service fails, all are cancelled and its error comes out.

    backend, audit log ── auth ── its listener ── proxy ── agent ── ready
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import trio

from tport.engine.agent.offers import AppSet
from tport.engine.agent.service import AgentSettings, hostname_of, run_agent
from tport.engine.api.protocol import AuthAPI
from tport.engine.audit.trail import Retention, open_audit_log
from tport.engine.auth.cluster import AuthSettings, StaticToken
from tport.engine.auth.measured import AuthMeasured
from tport.engine.auth.resources.bootstrap import bootstrap
from tport.engine.auth.seal import Seal
from tport.engine.auth.seal_key import SEAL_KEY_FILE, open_seal_key
from tport.engine.auth.server import AuthServer
from tport.engine.auth.service import AuthService, open_auth_service
from tport.engine.auth.steady_clock import SteadyClock
from tport.engine.backup.cluster import keep_backup
from tport.engine.client.connect import ADDRESS_FILE, ADMIN_FILE, AUTH_DIR, write_private
from tport.engine.config.address import Address
from tport.engine.config.in_force import settings_in_force
from tport.engine.config.model import Config, Secret
from tport.engine.config.secret_file import read_pins, read_secret_file
from tport.engine.diag.figures import LoopLag, ProcessFigures
from tport.engine.diag.gather import Gathering
from tport.engine.diag.service import serve_diagnostics
from tport.engine.diag.stalls import Stalls
from tport.engine.errors import ConfigError, Unavailable
from tport.engine.garbage import settle
from tport.engine.metrics.board import Board
from tport.engine.net.dial import EVERYWHERE, open_listener, own_address, port_of
from tport.engine.net.http1 import Drain
from tport.engine.net.ready import HAS_EPOLL
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.systemd import Supervisor
from tport.engine.pki.authority import is_current
from tport.engine.proxy_role import Ports, Reach, run_proxy_role
from tport.engine.reload import ReloadedApps, Reread, app_set, tell_faulty
from tport.engine.signals import Signals, forbid_core_dumps
from tport.engine.storage.folder import locked_folder
from tport.engine.storage.sqlite import SqliteBackend, open_sqlite_backend
from tport.engine.types.identity import Identity
from tport.engine.workers.pool import Workers

logger = logging.getLogger(__name__)

ADMIN_RENEWAL: Final = timedelta(hours=6)  # after which admin.pem is written anew
ADMIN_LOOK: Final = 2.0  # s between looks at whether it is due; the clock may have been set
ADMIN_RETRY: Final = 60.0  # s until the next try when it could not be
OWN_TOKEN_TTL: Final = 600.0  # s; with which an agent in this process joins
PROXY_DIR: Final = "proxy"
AGENT_DIR: Final = "agent"

Ready = Callable[[AuthAPI | None, Config], Awaitable[None]]


def wall_clock() -> datetime:
    return datetime.now(UTC)


async def run_process(config: Config, ready: Ready, reread: Reread | None = None) -> int:
    """Run what `config` enables until SIGTERM or SIGINT, drain, and return the exit status.

    Args:
        ready: called once all serve, with an administrator's AuthAPI where auth runs here, and
            the configuration with the ports that the listeners got.
        reread: reads the configuration anew; None: it comes from no file.

    Raises:
        TportError: what keeps a service from starting, or ends it.
    """
    _check(config)
    forbid_core_dumps()
    signals = Signals(Supervisor.of_environment())
    async with trio.open_nursery() as foundation:
        await foundation.start(signals.obey, foundation.cancel_scope)
        async with open_process(config, signals.stop, signals, reread) as running:
            signals.serving.set()
            settle()
            await ready(running.admin, running.config)
            await signals.serves(running.config.roles)
            await signals.stop.wait()
        foundation.cancel_scope.cancel()
    return signals.exit_status


@dataclass(frozen=True, kw_only=True)
class Running:
    """What runs.

    Attributes:
        admin: an administrator's AuthAPI, where auth runs in this process.
        config: with the ports that the listeners got.
        auth: the service itself, where it runs here.
    """

    admin: AuthAPI | None
    config: Config
    auth: AuthService | None


@asynccontextmanager
async def open_process(
    config: Config,
    stop: trio.Event,
    signals: Signals | None = None,
    reread: Reread | None = None,
) -> AsyncIterator[Running]:
    """Start what `config` enables; `stop` drains it, and leaving waits for that.

    Args:
        signals: tells when to read files anew; None: only a change of theirs does.
        reread: as `run_process`.

    Raises:
        TportError: what keeps a service from starting, or ends it.
    """
    process = _Process(config, stop, signals or Signals(), reread)
    async with process.running() as (admin, actual):
        yield Running(admin=admin, config=actual, auth=process.service)


def _check(config: Config) -> None:
    """Raise ConfigError for what this version can't do, before anything is opened."""
    if config.proxy_service.enabled and not config.auth_service.enabled:
        raise ConfigError(
            "proxy_service without auth_service: both run in one process in this version",
            hint="enable auth_service in the same file",
        )
    if config.proxy_service.enabled and not HAS_EPOLL:
        raise ConfigError(
            "proxy_service: needs Linux", hint="agents run here: enable app_service alone"
        )


class _Process:
    """What runs in this process, and what its parts hand one another."""

    def __init__(
        self, config: Config, stop: trio.Event, signals: Signals, reread: Reread | None
    ) -> None:
        self._config = config
        self._reloaded = ReloadedApps(config, reread, signals) if reread else None
        self._stop = stop
        self._signals = signals
        self.service: AuthService | None = None
        self._server: AuthServer | None = None
        self._board = Board()
        self._gathering = Gathering(self._board)
        self._gathering.stops = stop.is_set
        self._stalls = Stalls()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[AuthAPI | None, Config]]:
        """Start everything; on leaving, all has drained and ended."""
        config = self._config
        admin: AuthAPI | None = None
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._stalls.watched())
            proxy_listener: trio.SocketListener | None = None
            if config.diag_addr is not None:  # first and last: it tells of the others
                diag = await open_listener(config.diag_addr)
                config = self._config = _with_diag_port(config, diag)
                await stack.enter_async_context(self._diagnostics(diag))
            if config.proxy_service.enabled:  # first: a port in use is said before anything is made
                proxy_listener = await open_listener(config.proxy_service.web_listen_addr)
                config = self._config = _with_port(config, port_of(proxy_listener))
            if config.auth_service.enabled:
                await stack.enter_async_context(self._auth())
                admin = self._api("admin", "process")
            services = await stack.enter_async_context(trio.open_nursery())
            if proxy_listener is not None:
                await services.start(self._run_proxy, proxy_listener)
            if config.app_service.enabled:
                await services.start(self._run_agent, proxy_listener)
            self._gathering.serves = True
            yield admin, config
            # Leaving the nursery waits for the services to drain: `stop` is set.

    @asynccontextmanager
    async def _diagnostics(self, listener: trio.SocketListener) -> AsyncIterator[None]:
        lag = LoopLag()
        figures = ProcessFigures(lag, self._stalls, self._config.data_dir)
        self._board.add("process", figures.figures, figures.troubles)
        logger.info("diagnostics are at http://%s", self._config.diag_addr)
        name = self._config.diag_addr.host if self._config.diag_addr is not None else ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lag.keep)
            await nursery.start(serve_diagnostics, listener, self._gathering, name)
            yield
            nursery.cancel_scope.cancel()

    # --- Auth --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _auth(self) -> AsyncIterator[None]:
        config = self._config
        folder = config.data_dir / AUTH_DIR
        clock = SteadyClock(wall_clock)
        with locked_folder(folder):
            listener = await open_listener(config.auth_service.listen_addr)
            seal_key = await trio.to_thread.run_sync(open_seal_key, folder / SEAL_KEY_FILE)
            cluster = config.auth_service.cluster_name
            async with (
                listener,
                _open_backend(folder / "tport.db", config, Seal(seal_key), clock) as backend,
                open_audit_log(folder, cluster, wall_clock, _retention(config)) as audit,
                open_auth_service(
                    backend=backend,
                    audit=audit,
                    clock=clock,
                    settings=AuthSettings(
                        cluster=cluster,
                        proxy_addrs=_proxy_addrs(config),
                        static_tokens=await _static_tokens(config),
                        second_factor=config.auth_service.second_factor,
                        local_auth=config.auth_service.local_auth,
                        seal_key=seal_key,
                        web_idle=timedelta(seconds=config.auth_service.web_idle_timeout),
                        shown=settings_in_force(config),
                    ),
                ) as service,
                trio.open_nursery() as nursery,
            ):
                self.service = service
                drain = Drain()
                server = AuthServer(service, str(uuid.uuid4()), drain=drain)
                measured = AuthMeasured(service, audit.emitter, server.shed)
                self._board.add("storage", backend.figures, backend.troubles)
                self._board.add("auth", measured.figures, measured.troubles)
                await nursery.start(server.serve_listener, listener)
                await nursery.start(_keep_admin_files, service, folder, own_address(listener))
                self._server = server
                yield
                drain.begin()
                nursery.cancel_scope.cancel()

    def _api(self, kind: str, name: str) -> AuthAPI:
        """Return auth's API as a service of this process may use it."""
        assert self.service is not None
        cluster = self._config.auth_service.cluster_name
        identity = msgspec.convert({"kind": kind, "name": name, "cluster": cluster}, Identity)
        return self.service.as_caller(identity, "local")

    # --- Proxy -------------------------------------------------------------------------------------

    async def _run_proxy(
        self,
        listener: trio.SocketListener,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        config = self._config
        service, server = self.service, self._server
        assert service is not None
        assert server is not None
        shown = settings_in_force(config)
        acme = config.proxy_service.acme
        http = await open_listener(acme.http_addr) if acme.enabled and acme.http_addr else None
        with locked_folder(config.data_dir / PROXY_DIR):
            if config.proxy_service.workers > 1:
                workers = Workers(
                    config,
                    shown=shown,
                    listener=listener,
                    http=http,
                    service=service,
                    server=server,
                    stop=self._stop,
                    signals=self._signals,
                )
                self._gathering.others = workers.figures
                await workers.run(task_status=task_status)
                return
            proxy_id = str(uuid.uuid4())
            service.presence.expect([proxy_id])

            async def to_auth(stream: PrefixedStream, remote: str) -> None:
                await server.serve_connection(stream, remote=remote)

            await run_proxy_role(
                config,
                Reach(
                    proxy_id=proxy_id,
                    auth=self._api("proxy", proxy_id),
                    own_pair=lambda: service.issue_own_identity("proxy", proxy_id),
                    to_auth=to_auth,
                    board=self._board,
                ),
                Ports(public=listener, http=http),
                shown=shown,
                stop=self._stop,
                signals=self._signals,
                clock=wall_clock,
                task_status=task_status,
            )

    # --- Agent ---------------------------------------------------------------------------------------

    async def _run_agent(
        self, proxy: trio.SocketListener | None, *, task_status: trio.TaskStatus[None]
    ) -> None:
        config = self._config
        tell_faulty(config.app_service)
        apps = app_set(config.app_service)
        address = config.proxy_addr
        token = self._token_reader(config.auth_token)
        if address is None and proxy is not None:
            host = config.proxy_service.web_listen_addr.host
            address = Address("127.0.0.1" if host in EVERYWHERE else host, port_of(proxy))
            token = token or self._own_token
        folder = config.data_dir / AGENT_DIR
        with locked_folder(folder):
            await run_agent(
                AgentSettings(
                    folder=folder,
                    proxy=address,
                    hostname=hostname_of(config.nodename),
                    apps=apps.apps,
                    faulty=apps.faulty,
                    debug_app=apps.debug_app,
                    matchers=apps.matchers,
                    may_be_idle=self.service is not None,
                    next_apps=self._next_apps if self._reloaded else None,
                    token=token,
                    pins=await trio.to_thread.run_sync(read_pins, config.ca_pin),
                    insecure=config.insecure,
                    board=self._board,
                ),
                wall_clock,
                self._stop,
                task_status=task_status,
            )

    async def _next_apps(self) -> AppSet:
        assert self._reloaded is not None
        return app_set(await self._reloaded.next())

    def _token_reader(self, secret: Secret | None) -> Callable[[], Awaitable[str]] | None:
        if secret is None:
            return None

        async def read() -> str:
            return await _read_secret(secret)

        return read

    async def _own_token(self) -> str:
        """Make the token with which an agent joins the cluster of its own process."""
        made = await self._api("admin", "process").create_token(
            roles=("app",), ttl=OWN_TOKEN_TTL, app_name="", app_uri="", max_uses=1
        )
        return made.token


# --- Files and secrets -----------------------------------------------------------------------------


async def _keep_admin_files(
    service: AuthService,
    folder: Path,
    address: Address,
    *,
    task_status: trio.TaskStatus[None],
) -> NoReturn:
    """Leave what commands need to find and administer this cluster; renew it while we run.

    Raises:
        Unavailable: it can't be written when we start; later, the old one stays until it can.
    """
    clock = service.cluster.clock
    made = clock()
    await _write_admin_files(service, folder, address)
    task_status.started()
    while True:
        await trio.sleep(ADMIN_LOOK)
        if is_current(made, clock(), until=ADMIN_RENEWAL):
            continue
        now = clock()
        try:
            await _write_admin_files(service, folder, address)
        except Unavailable as problem:
            logger.warning("the administrator's certificate is not renewed yet: %s", problem)
            await trio.sleep(ADMIN_RETRY)
        else:
            made = now


async def _write_admin_files(service: AuthService, folder: Path, address: Address) -> None:
    text = service.issue_admin_identity("admin")
    try:
        await trio.to_thread.run_sync(write_private, folder / ADMIN_FILE, text)
        await trio.to_thread.run_sync(write_private, folder / ADDRESS_FILE, f"{address}\n")
    except OSError as problem:
        raise Unavailable(
            f"{folder} can't be written: {str(problem.strerror).lower()}",
            hint="see whether its disk is full",
        ) from None


@asynccontextmanager
async def _open_backend(
    path: Path, config: Config, seal: Seal, clock: SteadyClock
) -> AsyncIterator[SqliteBackend]:
    """Open auth's database; a first one begins with what `--bootstrap` names."""
    async with open_sqlite_backend(
        path, clock, lambda: keep_backup(path.parent, clock())
    ) as backend:
        if config.bootstrap is not None:
            cluster = config.auth_service.cluster_name
            now = clock()
            await bootstrap(config.bootstrap, cluster=cluster, backend=backend, seal=seal, now=now)
        yield backend


async def _read_secret(secret: Secret) -> str:
    if secret.is_stdin:
        line: str = await trio.to_thread.run_sync(sys.stdin.readline)
        return line.strip()
    if secret.file is None:
        return secret.text
    text, warning = await trio.to_thread.run_sync(read_secret_file, secret.file)
    if warning:
        logger.warning("%s", warning)
    return text


async def _static_tokens(config: Config) -> tuple[StaticToken, ...]:
    tokens: list[StaticToken] = []
    for secret in config.auth_service.tokens:
        if secret.file is None:
            tokens.append(StaticToken(secret=secret.text))
        else:
            tokens += [StaticToken(secret=line) for line in (await _read_secret(secret)).split()]
    return tuple(tokens)


def _retention(config: Config) -> Retention:
    kept = config.auth_service.audit
    return Retention(audit=kept.retention, requests=kept.request_log_retention)


# --- Addresses ---------------------------------------------------------------------------------------


def _with_port(config: Config, port: int) -> Config:
    """Return the configuration with the listener's port in the public addresses that left it open."""
    replace = msgspec.structs.replace
    proxy = config.proxy_service
    addresses = tuple(
        replace(address, port=port) if address.port == 0 else address
        for address in proxy.public_addrs
    )
    return replace(config, proxy_service=replace(proxy, public_addrs=addresses))


def _with_diag_port(config: Config, listener: trio.SocketListener) -> Config:
    assert config.diag_addr is not None
    address = Address(config.diag_addr.host, port_of(listener))
    if not ip_address(listener.socket.getsockname()[0]).is_loopback:
        logger.warning("diag_addr %s: whoever reaches it can read names and figures", address)
    return msgspec.structs.replace(config, diag_addr=address)


def _proxy_addrs(config: Config) -> tuple[str, ...]:
    if not config.proxy_service.enabled:
        return ()
    return tuple(str(address) for address in config.proxy_service.public_addrs)
