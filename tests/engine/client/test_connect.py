"""A command finds its cluster in a known order, and says where it looked and what is wrong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import trio

from tests.certs import Cluster
from tests.stack import open_stack
from tport.engine.client import connect as connect_module
from tport.engine.client.connect import (
    ADDRESS_FILE,
    ADMIN_FILE,
    AUTH_DIR,
    Place,
    find_cluster,
    open_cluster,
    up_data_dir,
    write_private,
)
from tport.engine.config.resolve import Machine
from tport.engine.errors import AccessDenied, ConfigError, ConnectionProblem, NotFound


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(connect_module, "DEFAULT_FILE", tmp_path / "etc" / "tport.yaml")
    return Machine(env={}, home=tmp_path / "home", cwd=tmp_path, hostname="box", is_root=False)


def with_env(machine: Machine, **env: str) -> Machine:
    return Machine(
        env=env, home=machine.home, cwd=machine.cwd, hostname="box", is_root=machine.is_root
    )


def make(data_dir: Path) -> Path:
    """Leave the files of a running cluster, and return its data directory."""
    folder = data_dir / AUTH_DIR
    folder.mkdir(parents=True)
    write_private(folder / ADMIN_FILE, "pem")
    return data_dir


def config_for(data_dir: Path, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"version: v3\nteleport:\n  data_dir: {data_dir}\n")
    return file


def test_what_is_named_comes_before_what_is_usual(machine: Machine, tmp_path: Path) -> None:
    places = {name: make(tmp_path / name) for name in ("config", "flag", "envfile", "envdir")}
    up = make(up_data_dir(machine))
    file = config_for(places["config"], tmp_path / "a.yaml")
    env_file = config_for(places["envfile"], tmp_path / "b.yaml")
    env = with_env(machine, TPORT_CONFIG_FILE=str(env_file), TPORT_DATA_DIR=str(places["envdir"]))
    only_dir = with_env(machine, TPORT_DATA_DIR=str(places["envdir"]))

    def found(config: Path | None, data_dir: Path | None, machine: Machine) -> Path:
        return find_cluster(config=config, data_dir=data_dir, machine=machine).folder.parent

    assert found(file, places["flag"], env) == places["config"]
    assert found(None, places["flag"], env) == places["flag"]
    assert found(None, None, env) == places["envfile"]
    assert found(None, None, only_dir) == places["envdir"]
    assert found(None, None, machine) == up


def test_a_named_place_without_a_cluster_is_not_replaced_by_another(
    machine: Machine, tmp_path: Path
) -> None:
    make(up_data_dir(machine))
    with pytest.raises(NotFound, match="nowhere"):
        find_cluster(config=None, data_dir=tmp_path / "nowhere", machine=machine)


def test_when_there_is_none_all_that_was_tried_is_said(machine: Machine, tmp_path: Path) -> None:
    config_for(tmp_path / "etc-data", tmp_path / "etc" / "tport.yaml")
    with pytest.raises(NotFound) as told:
        find_cluster(config=None, data_dir=None, machine=machine)

    for place in (str(up_data_dir(machine)), str(tmp_path / "etc-data"), "the default"):
        assert place in str(told.value)
    assert "tport up" in told.value.hint


def test_before_a_named_file_s_server_ran_the_command_that_starts_it_is_told(
    machine: Machine, tmp_path: Path
) -> None:
    """Not `tport up`, which would be another cluster."""
    file = config_for(tmp_path / "not yet", tmp_path / "my files" / "tport.yaml")
    with pytest.raises(NotFound, match="not yet") as told:
        find_cluster(config=file, data_dir=None, machine=machine)

    assert told.value.hint == f"start it: tport start --config '{file}'"


async def test_when_a_named_file_s_server_stopped_the_command_that_starts_it_is_told(
    machine: Machine, tmp_path: Path
) -> None:
    data = make(tmp_path / "data")
    file = config_for(data, tmp_path / "tport.yaml")
    place = find_cluster(config=file, data_dir=None, machine=machine)
    with pytest.raises(ConnectionProblem, match="does not answer") as told:
        async with open_cluster(place):
            pass

    assert told.value.hint.endswith(f": tport start --config {file}")


def test_an_agent_s_file_is_said_to_be_one(machine: Machine, tmp_path: Path) -> None:
    """Its agent's data may lie beside auth's: only where they don't is the file the wrong one."""
    file = config_for(tmp_path / "data", tmp_path / "agent.yaml")
    file.write_text(file.read_text() + 'auth_service: {enabled: "no"}\n')
    with pytest.raises(NotFound, match="the auth service does not run by this file") as told:
        find_cluster(config=file, data_dir=None, machine=machine)
    assert "where auth runs" in told.value.hint

    data = make(tmp_path / "data")
    assert find_cluster(config=file, data_dir=None, machine=machine).folder.parent == data


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_another_users_cluster_is_said_to_be_theirs(machine: Machine, tmp_path: Path) -> None:
    folder = make(tmp_path / "theirs") / AUTH_DIR
    folder.chmod(0)
    try:
        with pytest.raises(AccessDenied):
            find_cluster(config=None, data_dir=tmp_path / "theirs", machine=machine)
    finally:
        folder.chmod(0o700)


def test_a_private_file_is_its_owners_alone_and_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "admin.pem"
    write_private(file, "one")
    write_private(file, "two")

    assert file.read_text() == "two"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


# --- Talking to it ------------------------------------------------------------------------------------


async def test_the_files_that_auth_leaves_open_the_cluster() -> None:
    async with open_stack() as stack:
        place = Place(stack.running.config.data_dir / AUTH_DIR, "--data-dir")
        async with open_cluster(place) as auth:
            assert await auth.ping() == stack.running.config.auth_service.cluster_name
            assert [role.name for role in await auth.list_roles()] != []


async def test_another_cluster_at_the_address_gets_nothing_and_is_said_to_be_one(
    tmp_path: Path,
) -> None:
    """Its port was taken over by somebody else's: no call is sent there."""
    other = Cluster()
    async with open_stack() as stack:
        real = stack.running.config.data_dir / AUTH_DIR
        pair = other.pair("admin")
        write_private(
            tmp_path / ADMIN_FILE, pair.chain + pair.key + "".join(other.authorities.host)
        )
        address = await trio.Path(real / ADDRESS_FILE).read_text()
        write_private(tmp_path / ADDRESS_FILE, address)

        with pytest.RaisesGroup(ConnectionProblem, allow_unwrapped=True, flatten_subgroups=True):
            async with open_cluster(Place(tmp_path, "--data-dir")) as auth:
                await auth.ping()


async def test_a_cluster_that_does_not_run_is_said_not_to(tmp_path: Path) -> None:
    cluster = Cluster()
    pair = cluster.pair("admin")
    write_private(tmp_path / ADMIN_FILE, pair.chain + pair.key + "".join(cluster.authorities.host))
    with pytest.raises(ConnectionProblem, match=r"admin\.addr is missing"):
        async with open_cluster(Place(tmp_path, "--data-dir")):
            pass
    [unused] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = unused.socket.getsockname()[1]
    await unused.aclose()
    write_private(tmp_path / ADDRESS_FILE, f"127.0.0.1:{port}\n")
    with pytest.RaisesGroup(ConnectionProblem, allow_unwrapped=True, flatten_subgroups=True):
        async with open_cluster(Place(tmp_path, "--data-dir")) as auth:
            await auth.ping()


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nx\n"])
async def test_a_damaged_admin_file_is_said_to_be_one(tmp_path: Path, text: str) -> None:
    write_private(tmp_path / ADMIN_FILE, text)
    write_private(tmp_path / ADDRESS_FILE, "127.0.0.1:1\n")
    with pytest.raises(ConfigError, match="damaged"):
        async with open_cluster(Place(tmp_path, "--data-dir")):
            pass
