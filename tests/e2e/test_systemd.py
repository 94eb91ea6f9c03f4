"""The program as systemd runs it: what it is told, by which unit, and with which rights."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.harness import TPORT, Cluster, Tport, need, wait_until
from tests.engine.net.test_systemd import Listener
from tests.ports import free_port
from tport.engine.defaults import DRAIN

pytestmark = pytest.mark.e2e

RIGHTS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NET_BIND_SERVICE = 1 << 10
# As MemoryDenyWriteExecute=: no memory becomes executable that could be written. prctl(2), 65.
NO_WRITE_EXECUTE = (
    "import ctypes, os, sys;"
    " ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) and sys.exit('no PR_SET_MDWE');"
    " os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Listener]:
    with closing(Listener(str(tmp_path / "notify"))) as listener:
        yield listener


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster's file; nothing runs yet."""
    cluster = Cluster(tmp_path, free_port(), "")
    try:
        yield cluster
    finally:
        cluster.end()


def unit(*args: str) -> str:
    done = subprocess.run(
        [TPORT, "install", "systemd", *args], capture_output=True, text=True, check=True
    )
    return done.stdout


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


# --- What systemd is told ----------------------------------------------------------------------------


def test_systemd_is_told_when_all_serve_of_a_reload_and_of_the_stop(
    cluster: Cluster, systemd: Listener
) -> None:
    heard: list[str] = []

    def has(message: str) -> bool:
        heard.extend(systemd.heard())
        return any(found.startswith(message) for found in heard)

    env = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"}
    process = cluster.start("start", f"--config={cluster.file}", env=env)
    wait_until(lambda: has("READY=1"), "READY=1")
    assert answers(cluster.port)
    assert "READY=1\nSTATUS=serving auth, proxy" in heard
    wait_until(lambda: heard.count("WATCHDOG=1") > 3 or has("-"), "signs of life")

    heard.clear()
    process.signal(signal.SIGHUP)
    wait_until(lambda: has("READY=1"), "the end of the reload")
    assert re.fullmatch(
        r"RELOADING=1\nMONOTONIC_USEC=[0-9]+", next(m for m in heard if "R" in m[0])
    )

    heard.clear()
    assert process.stop() == 143
    assert has("STOPPING=1")


def test_an_agent_is_not_ready_before_its_first_tunnel(tport: Tport, systemd: Listener) -> None:
    token = tport.folder / "token"
    token.write_text(f"{'a' * 32}.{'0' * 64}")
    agent = tport.start(
        *("start", "--roles=app", f"--token={token}", f"--auth-server=127.0.0.1:{free_port()}"),
        *("--app-name=a", "--app-uri=http://127.0.0.1:9", f"--data-dir={tport.folder}/data"),
        env={"NOTIFY_SOCKET": systemd.address},
    )
    agent.wait_for("connection refused")

    assert systemd.heard() == []


# --- The unit ----------------------------------------------------------------------------------------


def test_the_unit_has_nothing_that_systemd_complains_of(tmp_path: Path) -> None:
    need("systemd-analyze", shutil.which("systemd-analyze"), "apt-get install systemd")
    file = tmp_path / "tport.service"
    file.write_text(unit("--config", str(tmp_path / "a b$c%d.yaml")))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_units_sandbox_is_rated_ok(tmp_path: Path) -> None:
    """2.0 of 10; what is left is the network, which is what tport is for."""
    need("systemd-analyze", shutil.which("systemd-analyze"), "apt-get install systemd")
    file = tmp_path / "tport.service"
    file.write_text(unit())

    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", file],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_waits_for_the_drain_and_takes_the_status_of_a_stop_for_success() -> None:
    """A second signal isn't needed, and `systemctl stop` leaves no failed unit behind."""
    settings = dict(line.split("=", 1) for line in unit().splitlines() if "=" in line)

    assert int(settings["TimeoutStopSec"]) > DRAIN
    assert "143" in settings["SuccessExitStatus"].split()
    assert settings["ExecStart"].endswith(" start --config=/etc/tport.yaml")
    assert settings["StateDirectory"] == "tport"


def test_the_unit_lets_write_where_the_file_says_the_data_is(tmp_path: Path) -> None:
    file = tmp_path / "tport.yaml"
    file.write_text("tport: {data_dir: /srv/tport data}")

    text = unit(f"--config={file}")

    assert '\nReadWritePaths="/srv/tport data"\n' in text
    assert '\nEnvironment="TPORT_DATA_DIR=/srv/tport data"\n' in text
    assert "StateDirectory" not in text
    assert "\nStateDirectory=lib/a\n" in unit("--data-dir=/var/lib/lib/a")


def test_a_written_unit_can_be_read_by_all_and_is_never_overwritten(tport: Tport) -> None:
    file = tport.folder / "units" / "tport.service"

    first = tport.run("install", "systemd", f"--output={file}")
    again = tport.run("install", "systemd", f"--output={file}")

    assert (first.returncode, again.returncode) == (0, 6)
    assert stat.S_IMODE(file.stat().st_mode) & 0o444 == 0o444
    assert "systemctl daemon-reload" in first.stderr
    assert tport.run("install", "systemd", "--user=a b").returncode == 2


# --- Its rights --------------------------------------------------------------------------------------


def free_low_port() -> int:
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.fail("no port below 1024 is free")


def test_with_no_right_but_one_a_port_below_1024_is_served(cluster: Cluster) -> None:
    """As AmbientCapabilities=, CapabilityBoundingSet=, NoNewPrivileges=, MemoryDenyWriteExecute= have it.

    Being root means nothing with `noroot`: what counts are the rights alone, capabilities(7).
    """
    need("setpriv", shutil.which("setpriv") and os.geteuid() == 0, "only root can give rights away")
    port = free_low_port()
    cluster = Cluster(cluster.folder, port, "")
    within = [sys.executable, "-c", NO_WRITE_EXECUTE]
    start = [TPORT, "start", f"--config={cluster.file}"]

    refused = cluster.spawn([*with_rights("-all"), *start])
    assert refused.wait() == 2
    assert f"port {port} may not be opened by this user" in refused.stderr
    assert "tport install systemd" in refused.stderr

    process = cluster.spawn([*with_rights("-all,+net_bind_service"), *within, *start])
    try:
        process.wait_for("tport: ready")
        status = Path(f"/proc/{process.pid}/status").read_text()
        rights = {name: int(re.findall(rf"{name}:\s+(\w+)", status)[0], 16) for name in RIGHTS}
        assert rights == dict.fromkeys(RIGHTS, NET_BIND_SERVICE)
        assert cluster.signed_in("alice").open(f"{cluster.url}/").status == 200
        assert process.stop() == 143
    finally:
        cluster.end()


def with_rights(these: str) -> list[str]:
    """Return what to put before a command so that it has these capabilities and gets no others."""
    return [
        *("setpriv", f"--inh-caps={these}", f"--ambient-caps={these}", f"--bounding-set={these}"),
        *("--securebits=+noroot,+noroot_locked", "--no-new-privs"),
    ]
