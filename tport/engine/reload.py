"""What a process reads anew while it runs: the applications of its file, and certificates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import trio

from tport.engine.agent.offers import AppSet
from tport.engine.config.model import AppService, Config
from tport.engine.errors import ConfigError, TportError
from tport.engine.proxy.key_pairs import FilePair, read_key_pair
from tport.engine.signals import Signals

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]

INTERVAL: Final = 2.0  # s between looks at files: a person who saved one looks for what it did
REST: Final = 1.0  # s for which a changed file must have stayed as it is: editors write in pieces

Reread = Callable[[], Config]
"""Reads the file once more and adds the flags; blocks, and raises as `load_config`."""


class ReloadedApps:
    """What the file says of applications, each time that it is to count."""

    def __init__(self, config: Config, reread: Reread, signals: Signals) -> None:
        """`config`: what runs, as `reread` returned it, or would have, at the start."""
        self._first = config
        self._now = config
        self._reread = reread
        self._signals = signals
        self._asked = signals.reload
        self._seen: _Stamp | None = None  # at the last look
        self._taken: _Stamp | None = None  # when the file was read last
        self._waiting: tuple[str, ...] = ()  # settings that differ and wait for a restart

    async def next(self) -> AppService:
        """Wait until SIGHUP, or until the file has changed, and return its applications.

        A file that can't be used is told, fault by fault, once; what was before goes on.
        """
        while True:
            asked = await self._wait()
            try:
                fresh = await trio.to_thread.run_sync(self._reread)
            except TportError as problem:
                for line in str(problem).splitlines():
                    logger.error("%s", line)  # noqa: TRY400 - no bug
                logger.error("the file is not taken; what ran before goes on")  # noqa: TRY400 - no bug
                continue
            before, self._now = self._now, fresh
            self._tell_waiting(fresh)
            if asked or fresh.app_service != before.app_service:
                tell_faulty(fresh.app_service, before.app_service)
                return fresh.app_service

    async def _wait(self) -> bool:
        """Wait until the file is to be read; tell whether SIGHUP asked for it."""
        while True:
            restless = self._seen != self._taken
            with trio.move_on_after(REST if restless else INTERVAL):
                await self._asked.wait()
            asked = self._asked.is_set()
            self._asked = self._signals.reload
            now = await trio.to_thread.run_sync(_stamp, self._now.file)
            before, self._seen = self._seen, now
            if asked or (now != self._taken and now == before):
                self._taken = now
                return asked

    def _tell_waiting(self, fresh: Config) -> None:
        """Say once what else of the file is another than at the start."""
        now, first = _rest(fresh), _rest(self._first)
        differ = tuple(f for f in Config.__struct_fields__ if getattr(now, f) != getattr(first, f))
        if differ and differ != self._waiting:
            logger.warning("changed, but only a restart takes it: %s", ", ".join(differ))
        self._waiting = differ


def tell_faulty(now: AppService, before: AppService | None = None) -> None:
    """Log each complaint about an application that wasn't there before."""
    told = {line for app in before.faulty for line in app.complaints} if before else set()
    for app in now.faulty:
        for complaint in app.complaints:
            if complaint not in told:
                logger.error("%s; this application is not served", complaint)


def faulty_apps(service: AppService) -> dict[str, str]:
    """Return the faulty applications: the name, or the place of one without, and what is wrong."""
    return {app.name or f"apps[{app.index}]": "; ".join(app.complaints) for app in service.faulty}


def app_set(service: AppService) -> AppSet:
    """Return what an agent offers."""
    return AppSet(
        apps=service.apps,
        faulty=faulty_apps(service),
        debug_app=service.debug_app,
        matchers=service.resources,
    )


def _rest(config: Config) -> Config:
    """Return what doesn't change while the process runs."""
    service = AppService(enabled=config.app_service.enabled)
    return msgspec.structs.replace(config, app_service=service, origins={}, notes=())


# --- Certificates ----------------------------------------------------------------------------------


class ReloadedKeyPairs:
    """The operator's certificates, each time that they are to be shown anew."""

    def __init__(self, config: Config, signals: Signals) -> None:
        self._config = config
        self._signals = signals
        self._asked = signals.reload
        self._before: list[_Stamp] | None = None  # not looked yet

    async def next(self) -> Sequence[FilePair]:
        """Wait until the operator's certificates have changed or SIGHUP came; return them all."""
        if self._before is None:
            self._before = await trio.to_thread.run_sync(_stamps, self._config)
        while True:
            with trio.move_on_after(INTERVAL) as unasked:
                await self._asked.wait()
            self._asked = self._signals.reload
            now = await trio.to_thread.run_sync(_stamps, self._config)
            if now == self._before and unasked.cancelled_caught:
                continue
            self._before = now
            try:
                return await trio.to_thread.run_sync(read_key_pairs, self._config)
            except ConfigError as problem:
                logger.error("certificates are not taken anew, the old ones stay: %s", problem)  # noqa: TRY400 - no bug


def read_key_pairs(config: Config) -> list[FilePair]:
    """Read the operator's certificates.

    Raises:
        ConfigError: one can't be used; it names the files, and where the configuration does.
    """
    pairs = []
    for pair in config.proxy_service.https_keypairs:
        try:
            read = read_key_pair(pair.cert_file, pair.key_file)
            pairs.append(FilePair(pair=read, path=str(pair.cert_file), read_at=datetime.now(UTC)))
        except ConfigError as problem:
            raise ConfigError(str(problem), where=pair.where, hint=problem.hint) from None
    return pairs


def _stamps(config: Config) -> list[_Stamp]:
    return [
        _stamp(file)
        for pair in config.proxy_service.https_keypairs
        for file in (pair.cert_file, pair.key_file)
    ]


def _stamp(file: Path | None) -> _Stamp:
    """Return what is another when the file was written, or replaced."""
    try:
        found = file.stat() if file else None
    except OSError:  # away, for now: reading it says why
        found = None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else (0, 0, 0)
