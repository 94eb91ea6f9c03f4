"""Certificates read anew: when, and all of them or none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trustme
from msgspec.structs import replace
from trio.testing import MockClock

from tport.engine.config.address import Address
from tport.engine.config.model import AppService, AuthService, Config, KeyPair, ProxyService
from tport.engine.errors import ConfigError
from tport.engine.reload import REST, ReloadedKeyPairs, read_key_pairs
from tport.engine.signals import Signals

NOW = datetime.now(UTC)
INTERVAL = 60.0


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    autojump_clock.autojump_threshold = 0.05  # s; files are looked at in a thread
    return autojump_clock


class Operator:
    """Renews as certbot does: new files, then the links are put over to them."""

    def __init__(self, folder: Path, interval: float = INTERVAL) -> None:
        self.folder = folder
        self.signals = Signals()
        self._ca = trustme.CA()
        self._renewals = 0
        self.cert, self.key = folder / "fullchain.pem", folder / "privkey.pem"
        self.link(self.make())
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
                enabled=True,
                web_listen_addr=Address("127.0.0.1", 0),
                public_addrs=(Address("proxy.test", 443),),
                public_is_given=True,
                https_keypairs=(
                    KeyPair(key_file=self.key, cert_file=self.cert, where="tport.yaml:7:5"),
                ),
                https_keypairs_reload_interval=interval,
            ),
            app_service=AppService(enabled=False),
        )
        self.reloaded = ReloadedKeyPairs(self.config, lambda: NOW, self.signals)

    def make(self, names: tuple[str, ...] = ("proxy.test",)) -> Path:
        self._renewals += 1
        folder = self.folder / f"archive{self._renewals}"
        folder.mkdir()
        pair = self._ca.issue_cert(*names)
        (folder / "cert.pem").write_bytes(pair.cert_chain_pems[0].bytes())
        (folder / "key.pem").write_bytes(pair.private_key_pem.bytes())
        return folder

    def link(self, folder: Path) -> None:
        self.link_certificate(folder)
        self.key.unlink(missing_ok=True)
        self.key.symlink_to(folder / "key.pem")

    def link_certificate(self, folder: Path) -> None:
        self.cert.unlink(missing_ok=True)
        self.cert.symlink_to(folder / "cert.pem")

    def sighup(self) -> None:
        self.signals.reload.set()
        self.signals.reload = trio.Event()


async def looked_once(operator: Operator) -> None:
    with trio.move_on_after(1) as waited:
        await operator.reloaded.next()
    assert waited.cancelled_caught, "nothing has changed yet"


async def test_a_link_that_leads_elsewhere_is_a_change_and_noticed_at_the_next_look(
    clock: MockClock, tmp_path: Path
) -> None:
    operator = Operator(tmp_path)
    await looked_once(operator)
    fresh = operator.make()
    operator.link(fresh)
    began = trio.current_time()

    [read] = await operator.reloaded.next()

    assert read.pair.chain == (fresh / "cert.pem").read_text()
    assert trio.current_time() - began <= INTERVAL + 2 * REST


async def test_what_changes_while_the_rest_of_the_proxy_starts_is_noticed(
    clock: MockClock, tmp_path: Path
) -> None:
    operator = Operator(tmp_path)
    [first] = await operator.reloaded.first()
    fresh = operator.make()
    operator.link(fresh)  # before anybody waits for a change

    began = trio.current_time()
    [read] = await operator.reloaded.next()
    assert trio.current_time() - began <= INTERVAL + 2 * REST
    assert first.pair.chain != read.pair.chain == (fresh / "cert.pem").read_text()


async def test_who_has_no_files_hears_of_none(clock: MockClock, tmp_path: Path) -> None:
    """Not on SIGHUP either, which is about other things then."""
    operator = Operator(tmp_path)
    proxy = replace(operator.config.proxy_service, https_keypairs=())
    config = replace(operator.config, proxy_service=proxy)
    reloaded = ReloadedKeyPairs(config, lambda: NOW, operator.signals)
    assert await reloaded.first() == []

    with trio.move_on_after(60) as waited:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reloaded.next)
            await trio.testing.wait_all_tasks_blocked()
            operator.sighup()
    assert waited.cancelled_caught


async def test_between_certificate_and_key_nothing_is_read(
    clock: MockClock, tmp_path: Path
) -> None:
    """The two don't fit for a moment, and that is nothing to tell anybody of."""
    operator = Operator(tmp_path, interval=1.0)
    await looked_once(operator)
    fresh = operator.make()

    async def slowly() -> None:
        await trio.sleep(0.9)
        operator.link_certificate(fresh)
        await trio.sleep(REST * 0.9)
        operator.link(fresh)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slowly)
        [read] = await operator.reloaded.next()

    assert read.pair.key == (fresh / "key.pem").read_text()


async def test_sighup_reads_at_once_and_without_an_interval_nothing_else_does(
    clock: MockClock, tmp_path: Path
) -> None:
    operator = Operator(tmp_path, interval=0.0)
    await looked_once(operator)
    fresh = operator.make()
    operator.link(fresh)
    with trio.move_on_after(7 * 24 * 3600) as waited:
        await operator.reloaded.next()
    assert waited.cancelled_caught

    operator.sighup()
    [read] = await operator.reloaded.next()

    assert read.pair.chain == (fresh / "cert.pem").read_text()


async def test_what_cant_be_used_is_told_once_with_its_place_and_taken_when_it_is_mended(
    clock: MockClock, tmp_path: Path
) -> None:
    operator = Operator(tmp_path)
    await looked_once(operator)
    old, fresh = operator.make(), operator.make()
    operator.link(old)
    operator.link_certificate(fresh)

    with pytest.raises(ConfigError) as refused:
        await operator.reloaded.next()

    assert str(refused.value).startswith(f"tport.yaml:7:5: {operator.cert} can't be used")
    with trio.move_on_after(10 * INTERVAL) as waited:
        await operator.reloaded.next()
    assert waited.cancelled_caught

    operator.link(fresh)
    [read] = await operator.reloaded.next()
    assert read.pair.chain == (fresh / "cert.pem").read_text()


def test_at_the_start_one_broken_pair_is_an_error_with_its_place(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    operator.key.unlink()

    with pytest.raises(ConfigError, match=r"^tport\.yaml:7:5: .*privkey\.pem can't be read"):
        read_key_pairs(operator.config, NOW)
