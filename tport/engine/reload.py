"""What a process reads anew while it runs: the applications of its file, and certificates."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import trio

from tport.engine.agent.offers import AppSet
from tport.engine.config.model import AppService, Config
from tport.engine.errors import ConfigError, TportError
from tport.engine.pki.contexts import system_authorities
from tport.engine.proxy.key_pairs import FilePair, read_key_pair
from tport.engine.signals import Signals

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]

INTERVAL: Final = 2.0  # s between looks at files: a person who saved one looks for what it did
REST: Final = 1.0  # s for which a changed file must have stayed as it is: editors write in pieces

Clock = Callable[[], datetime]
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

    def __init__(self, config: Config, clock: Clock, signals: Signals) -> None:
        """`config`: what runs."""
        self._config = config
        self._clock = clock
        self._signals = signals
        self._asked = signals.reload
        every = config.proxy_service.https_keypairs_reload_interval
        self._interval = max(every, REST) if every else math.inf
        self._seen: list[_Stamp] | None = None  # at the last look; None: there was none
        self._taken: list[_Stamp] | None = None  # when they were read last

    async def first(self) -> Sequence[FilePair]:
        """Return the certificates as they are now; what changes from now on, `next` notices.

        Raises:
            ConfigError: one of them can't be used; it names the files.
        """
        self._seen = self._taken = await trio.to_thread.run_sync(_stamps, self._config)
        return await trio.to_thread.run_sync(read_key_pairs, self._config, self._clock())

    async def next(self) -> Sequence[FilePair]:
        """Wait until the operator's certificates have changed or SIGHUP came; return them all.

        A change counts once the files have stayed as they are for REST: certificate and key are
        two files, and between the two nothing fits. Where there are none it waits for good.

        Raises:
            ConfigError: one of them can't be used. It names the files; ask again.
        """
        if not self._config.proxy_service.https_keypairs:
            await trio.sleep_forever()
        if self._taken is None:
            self._seen = self._taken = await trio.to_thread.run_sync(_stamps, self._config)
        while True:
            restless = self._seen != self._taken
            with trio.move_on_after(REST if restless else self._interval):
                await self._asked.wait()
            asked = self._asked.is_set()
            self._asked = self._signals.reload
            now = await trio.to_thread.run_sync(_stamps, self._config)
            before, self._seen = self._seen, now
            if asked or (now != self._taken and now == before):
                self._taken = now
                return await trio.to_thread.run_sync(read_key_pairs, self._config, self._clock())


def read_key_pairs(config: Config, now: datetime) -> list[FilePair]:
    """Read the operator's certificates; what is wrong with those that can be used is logged.

    Raises:
        ConfigError: one can't be used; it names the files, and where the configuration does.
    """
    pairs = []
    for where, read in _each_pair(config, now):
        if isinstance(read, ConfigError):
            raise read
        for warning in read.warnings:
            logger.warning("%s: %s: %s", where, read.path, warning)
        pairs.append(read)
    return pairs


def judge_key_pairs(config: Config, now: datetime) -> tuple[list[str], list[str]]:
    """Return what should be mended about the operator's certificates, and what must be."""
    warnings, complaints = list[str](), list[str]()
    for where, read in _each_pair(config, now):
        if isinstance(read, ConfigError):
            complaints.append(str(read))
        else:
            warnings += [f"{where}: {read.path}: {warning}" for warning in read.warnings]
    return warnings, complaints


def _each_pair(config: Config, now: datetime) -> Iterator[tuple[str, FilePair | ConfigError]]:
    given = config.proxy_service.https_keypairs
    authorities = system_authorities() if given else ()
    for pair in given:
        try:
            yield (
                pair.where,
                read_key_pair(pair.cert_file, pair.key_file, now=now, authorities=authorities),
            )
        except ConfigError as problem:
            yield pair.where, ConfigError(str(problem), where=pair.where, hint=problem.hint)


def _stamps(config: Config) -> list[_Stamp]:
    return [
        _stamp(file)
        for pair in config.proxy_service.https_keypairs
        for file in (pair.cert_file, pair.key_file)
    ]


def _stamp(file: Path | None) -> _Stamp:
    """Return what is another when the file was written or replaced, or a link to it was."""
    try:
        found = file.stat() if file else None
    except OSError:  # away, for now: reading it says why
        found = None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else (0, 0, 0)
