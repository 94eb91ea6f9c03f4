"""The parts put together: one process a folder, faults before harm, and an end that cuts nobody off."""

from __future__ import annotations

import errno
import fcntl
import stat
from pathlib import Path

import msgspec
import pytest
import trio

from tests.stack import open_stack, read_answer
from tport.engine.client.connect import ADDRESS_FILE, ADMIN_FILE, AUTH_DIR
from tport.engine.config.address import Address
from tport.engine.config.model import (
    AppService,
    AuthService,
    Config,
    FaultyApp,
    Log,
    ProxyService,
)
from tport.engine.errors import ConfigError, TportError
from tport.engine.process import open_process, run_process
from tport.engine.storage.folder import locked_folder


def test_a_folder_is_its_owners_alone_and_one_processs_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "auth"
    with locked_folder(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with pytest.raises(ConfigError, match="in use by another"), locked_folder(folder):
            pass
    with locked_folder(folder):
        pass  # free again


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as told, locked_folder(tmp_path / "file" / "auth"):
        pass
    assert "--data-dir" in told.value.hint


def test_a_fault_of_the_lock_that_is_not_another_process_is_not_called_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int, __: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="no locks"), locked_folder(tmp_path):
        pass


async def test_auth_leaves_what_commands_need_for_its_owner_alone() -> None:
    async with open_stack() as stack:
        folder = stack.running.config.data_dir / AUTH_DIR
        admin = await trio.Path(folder / ADMIN_FILE).stat()
        address = await trio.Path(folder / ADDRESS_FILE).read_text()

        assert stat.S_IMODE(admin.st_mode) == 0o600
        assert address.startswith("127.0.0.1:")


async def test_a_second_process_on_the_same_folder_says_so() -> None:
    async with open_stack() as stack:
        config = msgspec.structs.replace(
            stack.running.config,
            proxy_service=msgspec.structs.replace(
                stack.running.config.proxy_service, enabled=False
            ),
            app_service=AppService(enabled=False, debug_app=False, apps=()),
        )
        with pytest.RaisesGroup(ConfigError, allow_unwrapped=True, flatten_subgroups=True):
            async with open_process(config, trio.Event()):
                pass


async def test_a_port_in_use_is_said_before_anything_is_made(tmp_path: Path) -> None:
    async with open_stack() as stack:
        taken = msgspec.structs.replace(
            stack.running.config.proxy_service,
            web_listen_addr=msgspec.structs.replace(
                stack.running.config.proxy_service.web_listen_addr, port=stack.port
            ),
        )
        config = msgspec.structs.replace(
            stack.running.config, data_dir=tmp_path / "new", proxy_service=taken
        )
        with pytest.RaisesGroup(TportError, allow_unwrapped=True, flatten_subgroups=True):
            async with open_process(config, trio.Event()):
                pass
    assert not (tmp_path / "new").exists()


async def test_what_this_version_can_not_do_is_said_first(tmp_path: Path) -> None:
    config = Config(
        data_dir=tmp_path / "new",
        nodename="box",
        log=Log(),
        auth_service=AuthService(
            enabled=False,
            listen_addr=Address("127.0.0.1", 0),
            listen_is_given=True,
            cluster_name="test",
        ),
        proxy_service=ProxyService(
            enabled=True,
            web_listen_addr=Address("127.0.0.1", 0),
            public_addrs=(Address("proxy.test", 0),),
            public_is_given=True,
        ),
        app_service=AppService(enabled=False, debug_app=False, apps=()),
    )

    async def never(*_: object) -> None:
        raise AssertionError("it serves")

    with pytest.raises(ConfigError):
        await run_process(config, never)
    assert not (tmp_path / "new").exists()


async def test_a_stop_lets_the_request_that_runs_finish_and_takes_no_longer() -> None:
    """All in one process: proxy, agent and auth drain in an order in which the answer gets through."""
    begun, go_on = trio.Event(), trio.Event()

    async def slow(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        begun.set()
        await go_on.wait()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

    with trio.fail_after(20):
        async with open_stack() as stack:
            alice = await stack.user("alice")
            await alice.open("raw")
            stack.raw_app.script = slow
            host = stack.host("raw")
            idle = await stack.connect(host)
            busy = await stack.connect(host)
            request = (
                f"GET / HTTP/1.1\r\nHost: {host}:{stack.port}\r\nCookie: {alice.cookie('raw')}"
            )
            await busy.send_all(request.encode() + b"\r\n\r\n")
            await begun.wait()

            stack.stop.set()
            assert await idle.receive_some() == b""  # nobody waits for who asks nothing
            await trio.sleep(0.2)
            go_on.set()
            answer = await read_answer(busy)
            ended = await busy.receive_some() == b""
            for client in (idle, busy):
                await trio.aclose_forcefully(client)

    assert (answer.status, answer.body) == (200, b"slow")
    assert ended


async def test_auth_and_proxy_serve_though_no_application_can(tmp_path: Path) -> None:
    faulty = FaultyApp(index=0, name="Bad_Name", complaints=("tport.yaml:7:11: bad",))
    config = Config(
        data_dir=tmp_path / "new",
        nodename="box",
        log=Log(),
        auth_service=AuthService(
            enabled=True,
            listen_addr=Address("127.0.0.1", 0),
            listen_is_given=True,
            cluster_name="test",
        ),
        proxy_service=ProxyService(
            enabled=True,
            web_listen_addr=Address("127.0.0.1", 0),
            public_addrs=(Address("proxy.test", 0),),
            public_is_given=True,
        ),
        app_service=AppService(enabled=True, faulty=(faulty,)),
    )
    stop = trio.Event()
    with trio.fail_after(20):
        async with open_process(config, stop) as running:
            assert running.admin is not None
            with trio.fail_after(5):
                while not (servers := (await running.admin.status()).app_servers):  # noqa: ASYNC110 - what people would ask
                    await trio.sleep(0.02)
            [shown] = servers
            assert (shown.app.name, shown.refused) == ("Bad_Name", "tport.yaml:7:11: bad")
            stop.set()
