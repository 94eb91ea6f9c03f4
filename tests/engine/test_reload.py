"""The file read anew: when, what of it counts, and what a fault costs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tport.engine.config.address import Address
from tport.engine.config.model import (
    AppService,
    AuthService,
    Config,
    FaultyApp,
    ProxyService,
)
from tport.engine.errors import ConfigError
from tport.engine.reload import INTERVAL, REST, ReloadedApps, faulty_apps
from tport.engine.signals import Signals
from tport.engine.types.app import App

ONE = App(name="one", uri="http://127.0.0.1:1")
TWO = App(name="two", uri="http://127.0.0.1:2")
BAD = FaultyApp(index=1, name="", complaints=("f:7:1: uri: is missing", "f:8:1: name: is missing"))


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    autojump_clock.autojump_threshold = 0.05  # s; the file is looked at in a thread
    return autojump_clock


class Operator:
    """Edits the file, and sends SIGHUP."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tport.yaml"
        self.signals = Signals()
        self.config = Config(
            data_dir=folder,
            nodename="box",
            auth_service=AuthService(
                enabled=False,
                listen_addr=Address("127.0.0.1", 0),
                listen_is_given=False,
                cluster_name="test",
            ),
            proxy_service=ProxyService(
                enabled=False,
                web_listen_addr=Address("127.0.0.1", 0),
                public_addrs=(Address("proxy.test", 443),),
                public_is_given=False,
            ),
            app_service=AppService(enabled=True, apps=(ONE,)),
            file=self.file,
        )
        self.says: Config | ConfigError = self.config
        self.reads = 0
        self._edits = 0
        self.edit(self.config)
        self.reloaded = ReloadedApps(self.config, self.read, self.signals)

    def read(self) -> Config:
        self.reads += 1
        if isinstance(self.says, ConfigError):
            raise self.says
        return self.says

    def edit(self, says: Config | ConfigError) -> None:
        self.says = says
        self._edits += 1
        self.file.write_text("#" * self._edits)

    def edit_apps(self, *apps: App, faulty: tuple[FaultyApp, ...] = ()) -> None:
        service = AppService(enabled=True, apps=apps, faulty=faulty)
        self.edit(msgspec.structs.replace(self.config, app_service=service))

    def sighup(self) -> None:
        self.signals.reload.set()
        self.signals.reload = trio.Event()


async def when(call: Callable[[], object], after: float) -> None:
    await trio.sleep(after)
    call()


async def test_a_changed_file_is_read_once_it_has_come_to_rest(
    clock: MockClock, tmp_path: Path
) -> None:
    operator = Operator(tmp_path)
    operator.edit_apps(ONE, TWO)
    began = trio.current_time()

    service = await operator.reloaded.next()

    assert service.apps == (ONE, TWO)
    assert INTERVAL + REST <= trio.current_time() - began < INTERVAL + 3 * REST
    assert operator.reads == 1


async def test_a_file_that_is_being_written_is_not_read(clock: MockClock, tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    with trio.move_on_after(INTERVAL - REST):
        await operator.reloaded.next()
    async with trio.open_nursery() as nursery:

        async def write_for_long() -> None:
            for _ in range(80):
                operator.edit_apps()
                await trio.sleep(REST / 4)
            operator.edit_apps(ONE, TWO)

        nursery.start_soon(write_for_long)

        assert (await operator.reloaded.next()).apps == (ONE, TWO)

    assert operator.reads == 1


async def test_a_file_that_says_the_same_as_before_changes_nothing(
    clock: MockClock, tmp_path: Path
) -> None:
    operator = Operator(tmp_path)
    with trio.move_on_after(20 * INTERVAL) as waited:
        await operator.reloaded.next()
    assert waited.cancelled_caught
    assert operator.reads == 1


async def test_sighup_is_heard_at_once_and_while_nobody_waits(
    clock: MockClock, tmp_path: Path
) -> None:
    operator = Operator(tmp_path)
    operator.edit_apps(TWO)
    operator.sighup()
    began = trio.current_time()
    assert (await operator.reloaded.next()).apps == (TWO,)
    operator.sighup()
    assert (await operator.reloaded.next()).apps == (TWO,), "it asks for a look at files, too"
    assert trio.current_time() - began < REST


async def test_of_a_faulty_file_every_fault_is_told_once_and_the_old_goes_on(
    clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator(tmp_path)
    operator.edit(ConfigError("tport.yaml:1:1: a: is bad\ntport.yaml:2:1: b: is bad"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(when, lambda: operator.edit_apps(TWO), 20 * INTERVAL)
        assert (await operator.reloaded.next()).apps == (TWO,)

    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert said == [
        "tport.yaml:1:1: a: is bad",
        "tport.yaml:2:1: b: is bad",
        "the file is not taken; what ran before goes on",
    ]


async def test_a_bad_app_is_told_once_and_goes_red_alone(
    clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator(tmp_path)
    operator.edit_apps(ONE, faulty=(BAD,))
    operator.sighup()
    service = await operator.reloaded.next()
    operator.sighup()
    await operator.reloaded.next()

    assert service.apps == (ONE,)
    assert faulty_apps(service) == {"apps[1]": "; ".join(BAD.complaints)}
    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert said == [f"{line}; this application is not served" for line in BAD.complaints]


async def test_what_only_a_restart_takes_is_said_once(
    clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator(tmp_path)
    operator.edit(msgspec.structs.replace(operator.config, nodename="other", ca_pin=("0" * 64,)))
    for _ in range(3):
        operator.sighup()
        assert (await operator.reloaded.next()).apps == (ONE,)

    [said] = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert said == "changed, but only a restart takes it: nodename, ca_pin"


async def test_a_file_that_is_away_for_a_while_is_no_end(
    clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator(tmp_path)
    operator.file.unlink()
    operator.says = ConfigError("there is no such file", where="tport.yaml")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(when, lambda: operator.edit_apps(TWO), 5 * INTERVAL)
        assert (await operator.reloaded.next()).apps == (TWO,)
    assert sum("no such file" in record.message for record in caplog.records) == 1
