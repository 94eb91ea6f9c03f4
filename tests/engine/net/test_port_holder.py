from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tport.engine.net.port_holder import port_holder

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux's /proc tells")


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")]
)
def test_who_listens_on_a_port_is_named(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as server:
        held = port_holder(server.getsockname()[1])

    assert held.endswith(f", process {os.getpid()}")


def test_a_connection_from_a_port_does_not_hold_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            assert port_holder(client.getsockname()[1]) == ""


def test_what_is_hidden_is_not_named(tmp_path: Path) -> None:
    """Another user's files can't be looked at, and a container may have no /proc at all."""
    (tmp_path / "net").mkdir()
    line = "0: 0100007F:0050 00000000:0000 0A 0:0 0:0 0 0 0 4711 1"
    (tmp_path / "net" / "tcp").write_text(f"head\n{line}\n")
    (tmp_path / "12").mkdir()

    assert port_holder(0x50, tmp_path) == ""
    assert port_holder(0x50, tmp_path / "gone") == ""
