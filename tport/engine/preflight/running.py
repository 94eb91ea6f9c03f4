"""Look at all that a configuration needs, at once, and judge it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urlsplit

import trio

from tport.engine.config.model import Config
from tport.engine.errors import ConfigError
from tport.engine.net.dial import is_this_machine
from tport.engine.pki.contexts import https_context
from tport.engine.preflight.certificates import judge_pairs
from tport.engine.preflight.look_machine import (
    AGENT_DIR,
    AUTH_DIR,
    PROXY_DIR,
    look_at_folder,
    look_at_joining,
    look_at_program,
    looks_for_another,
    read_pair,
    trusted_issuers,
)
from tport.engine.preflight.look_network import (
    ask_app,
    ask_proxy,
    get_https,
    look_at_port,
    look_up,
    own_addresses,
)
from tport.engine.preflight.machine import judge_clock, judge_folder
from tport.engine.preflight.names import Lookup, Names, judge_names
from tport.engine.preflight.others import (
    Answer,
    Trust,
    judge_app,
    judge_directory,
    judge_pins,
    judge_proxy,
)
from tport.engine.preflight.ports import judge_acme_port, judge_port, judge_reach
from tport.engine.preflight.row import Row, ok, problem, unknown
from tport.engine.proxy.acme_settings import read_authority, read_external
from tport.engine.types.app import App

T = TypeVar("T")
R = TypeVar("R")

DEADLINE: Final = 30.0  # s for everything; looks end by their own deadlines before
AT_ONCE: Final = 10  # applications that are asked at a time
# A name that is there wherever DNS is, where no certificate authority is to be asked for.
CONTROL: Final = "a.root-servers.net"


class _Preflight:
    """The looks of one configuration; each adds its rows where the table has them."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._proxy = config.proxy_service
        self._looked_up = trio.Event()
        self._known: set[str] = set()  # names that lead somewhere
        self._has_dns = True
        self._names: list[Row] = []
        self._ports: list[Row] = []
        self._authority: list[Row] = []
        self._certificates: list[Row] = []
        self._clock: list[Row] = []
        self._data: list[Row] = []
        self._agent: list[Row] = []
        self._apps: list[Row] = []

    async def run(self) -> list[Row]:
        """Look at everything; what isn't done in DEADLINE seconds is said to be unknown."""
        looks: dict[str, Callable[[], Awaitable[None]]] = {"data directory": self._look_at_data}
        if self._proxy.enabled:
            looks |= {
                "dns": self._look_up,
                "port": self._look_at_ports,
                "certificates": self._look_at_certificates,
            }
        looks["clock"] = self._look_at_others
        if self._config.app_service.enabled:
            looks["apps"] = self._look_at_apps
        left = set(looks)
        with trio.move_on_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                for name, look in looks.items():
                    nursery.start_soon(_done, name, look, left)
        late = [unknown(name, f"not seen within {DEADLINE:.0f} s") for name in sorted(left)]
        return [
            *(*self._names, *self._ports, *self._authority, *self._certificates),
            *(*self._clock, *self._data, *self._agent, *self._apps, *late),
        ]

    def _app_hosts(self) -> list[str]:
        """Return where people reach this file's applications."""
        proxy = self._proxy.public_addrs[0].host
        apps = self._config.app_service.apps if self._config.app_service.enabled else ()
        return [app.public_addr or f"{app.name}.{proxy}" for app in apps]

    # --- DNS -----------------------------------------------------------------------------------------

    async def _look_up(self) -> None:
        publics = [address.host for address in self._proxy.public_addrs]
        names = [name for name in publics if not is_this_machine(name)]
        nobody = f"tport-check-{os.urandom(4).hex()}"
        apps = [host for host in self._app_hosts() if not is_this_machine(host)]
        acme = self._proxy.acme
        found = await _all(look_up, [*names, *(f"{nobody}.{name}" for name in names), *apps])
        self._known = {lookup.name for lookup in found if lookup.state == "found"}
        control = (acme.enabled and urlsplit(acme.uri).hostname) or CONTROL
        looked = Lookup(name=control, state="found")
        if names and not self._known:  # is it the names, or DNS as a whole?
            looked = await look_up(control)
        self._has_dns = looked.state == "found"
        self._looked_up.set()
        count = len(names)
        self._names = judge_names(
            Names(
                proxy=tuple(found[:count]),
                wildcards=tuple(found[count : 2 * count]),
                apps=tuple(found[2 * count :]),
                control=looked,
                own=await own_addresses(),
                here_only=tuple(name for name in publics if is_this_machine(name)),
                # An authority of one's own comes from inside; by DNS nobody has to come at all.
                needs_public=acme.enabled and acme.ca_file is None and acme.dns_hook is None,
                needs_dns=acme.enabled,
            )
        )

    # --- Ports ---------------------------------------------------------------------------------------

    async def _look_at_ports(self) -> None:
        listen, publics = self._proxy.web_listen_addr, self._proxy.public_addrs
        await self._looked_up.wait()
        there = [each for each in publics if is_this_machine(each.host) or each.host in self._known]
        port, reached = await look_at_port(listen, there if listen.port else ())
        self._ports = [judge_port("port", port)]
        self._ports += [judge_reach(f"reachable {reach.address}", reach) for reach in reached]
        auth = self._config.auth_service
        if auth.enabled and port.state == "free":  # else it is held by the tport that runs
            self._ports.append(
                judge_port("auth port", (await look_at_port(auth.listen_addr, ()))[0])
            )
        acme = self._proxy.acme
        if acme.enabled and acme.http_addr is not None and port.state == "free":
            self._ports.append(judge_port("http port", (await look_at_port(acme.http_addr, ()))[0]))
        if acme.enabled:
            self._ports.append(self._acme_port(publics[0].port, listen.port))

    def _acme_port(self, public: int, listen: int) -> Row:
        acme = self._proxy.acme
        return judge_acme_port(
            public,
            listen,
            http=acme.http_addr.port if acme.http_addr is not None else None,
            by_dns=acme.dns_hook is not None,
        )

    # --- Certificates --------------------------------------------------------------------------------

    async def _look_at_certificates(self) -> None:
        pairs, acme = self._proxy.https_keypairs, self._proxy.acme
        if acme.enabled and not pairs:
            return  # the directory, names and ports say whether it can work
        if not pairs:
            found = "tport's own authority makes them"
            self._certificates = [
                ok("certificates", found, "browsers must be told: tport ca trust")
            ]
            return
        known = await trio.to_thread.run_sync(trusted_issuers)
        publics = [address.host for address in self._proxy.public_addrs]
        self._certificates = judge_pairs(
            [await trio.to_thread.run_sync(read_pair, pair) for pair in pairs],
            names=publics,
            apps=self._app_hosts(),
            now=datetime.now(UTC),
            known_issuer=known,
            alone=not acme.enabled,
        )

    # --- Certificate authority, proxy, clock ---------------------------------------------------------

    async def _look_at_others(self) -> None:
        theirs, whose = None, ""
        before = datetime.now(UTC)
        acme = self._proxy.acme
        if self._proxy.enabled and acme.enabled:
            authority = await trio.to_thread.run_sync(self._look_at_acme_files)
            await self._looked_up.wait()
            if self._has_dns and authority is not None:  # else that is said once
                whose = urlsplit(acme.uri).hostname or ""
                context = https_context(authorities=[authority] if authority else ())
                answer, theirs, _ = await get_https(acme.uri, context)
                self._authority.append(judge_directory(acme.uri, answer))
        if self._config.app_service.enabled and not self._proxy.enabled:
            theirs, whose = await self._look_at_proxy()
        now = datetime.now(UTC)
        self._clock = [judge_clock(theirs, before + (now - before) / 2, whose)]

    def _look_at_acme_files(self) -> str | None:
        """Look at what `acme` names; return the CA's own authority, None if that can't be used. Blocks."""
        acme, authority = self._proxy.acme, None
        try:
            authority = read_authority(acme.ca_file)
        except ConfigError as fault:
            hint = "proxy_service.acme.ca_file: PEM, or leave it out"
            self._authority.append(problem("acme directory", str(fault), hint))
        try:
            if acme.eab is not None:
                read_external(acme.eab, any_owner=looks_for_another())
        except ConfigError as fault:
            hint = fault.hint or "proxy_service.acme.eab names the key that the CA gave"
            self._authority.append(problem("acme account", str(fault), hint))
        if acme.dns_hook is not None and (said := look_at_program(acme.dns_hook)):
            hint = "proxy_service.acme.dns_hook: a program, with chmod +x; see docs/acme.md"
            self._authority.append(problem("acme dns_hook", f"{acme.dns_hook}: {said}", hint))
        return authority

    async def _look_at_proxy(self) -> tuple[datetime | None, str]:
        """Look at an agent's proxy; return its clock, and whose that is."""
        joining = await trio.to_thread.run_sync(look_at_joining, self._config)
        proxy = joining.proxy
        if proxy is None:
            hint = "name it: proxy_server in the file; tport tokens add prints a whole line"
            self._agent = [problem("proxy", "the agent knows no proxy to dial", hint)]
            return None, ""
        bundle, answer, verified, clock = await ask_proxy(proxy)
        trust = Trust(
            cluster=bundle.cluster if bundle else "",
            said=answer.said,
            advice=answer.advice,
            pins=judge_pins(joining.pins, bundle.host, bundle.web) if bundle else "none",
            verified=verified,
            joined=joining.joined,
            token=joining.token,
            token_said=joining.token_said,
        )
        self._agent = judge_proxy(str(proxy), trust)
        return clock, str(proxy)

    # --- Data and applications -----------------------------------------------------------------------

    async def _look_at_data(self) -> None:
        config = self._config
        roles = (
            (AUTH_DIR, config.auth_service.enabled),
            (PROXY_DIR, config.proxy_service.enabled),
            (AGENT_DIR, config.app_service.enabled),
        )
        folders = [name for name, is_enabled in roles if is_enabled]
        look = partial(look_at_folder, config.data_dir, folders=folders)
        folder = await trio.to_thread.run_sync(look)
        self._data = judge_folder(folder)

    async def _look_at_apps(self) -> None:
        service = self._config.app_service
        limiter = trio.CapacityLimiter(AT_ONCE)

        async def ask(app: App) -> Answer:
            async with limiter:
                return await ask_app(app)

        answers = await _all(ask, service.apps)
        self._apps = [
            judge_app(app.name, app.uri, answer)
            for app, answer in zip(service.apps, answers, strict=True)
        ]
        for faulty in service.faulty:
            name = faulty.name or f"apps[{faulty.index}]"
            self._apps.append(problem(f"app {name}", "; ".join(faulty.complaints), "mend the file"))


async def preflight(config: Config) -> list[Row]:
    """Look at all that `config` needs; return the rows of the table. Takes DEADLINE seconds at most."""
    return await _Preflight(config).run()


async def _done(name: str, look: Callable[[], Awaitable[None]], left: set[str]) -> None:
    await look()
    left.discard(name)


async def _all(look: Callable[[T], Awaitable[R]], what: Sequence[T]) -> list[R]:
    """Look at several at once; return what was seen, in their order."""
    seen: dict[int, R] = {}

    async def one(index: int, thing: T) -> None:
        seen[index] = await look(thing)

    async with trio.open_nursery() as nursery:
        for index, thing in enumerate(what):
            nursery.start_soon(one, index, thing)
    return [seen[index] for index in range(len(what))]
