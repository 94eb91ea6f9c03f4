"""The services of the container's compose file, as processes: with nothing changed but names, ports and folders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import PASSWORD, Tport, wait_until
from tests.ports import free_port
from tests.test_container import CONFIG, services

pytestmark = pytest.mark.e2e


def test_the_agent_of_the_compose_file_joins_by_its_token_and_its_application_is_reached(
    tport: Tport, tmp_path: Path
) -> None:
    port, app_port = free_port(), free_port()
    health = {"tport": free_port(), "agent": free_port()}
    handed_over = tmp_path / "handed-over"
    handed_over.mkdir()
    composed = services()

    def here(text: str, who: str) -> str:
        """The words of a service, with the names that it has here."""
        for theirs, ours in (
            ("/var/lib/tport", str(tmp_path / who)),
            ("/etc/tport.yaml", str(tmp_path / "tport.yaml")),
            ("/run/tport", str(handed_over)),
            ("0.0.0.0:3080", f"127.0.0.1:{port}"),
            ("tport.localhost:3080", f"tport.localhost:{port}"),
            ("tport:3080", f"localhost:{port}"),
            ("127.0.0.1:3000", f"127.0.0.1:{health.get(who)}"),
            ("hello:8000", f"127.0.0.1:{app_port}"),
            ("\nauth_service:\n", "\nauth_service:\n  listen_addr: 127.0.0.1:0\n"),
        ):
            text = text.replace(theirs, ours)
        return text

    def words(who: str) -> list[str]:
        return [here(word, who) for word in composed[who]["command"]]

    def is_well(who: str) -> bool:
        command, *args = asked(composed[who])
        assert command == "python3"
        done = subprocess.run(
            [sys.executable, *(here(arg, who) for arg in args)], capture_output=True, check=False
        )
        return done.returncode == 0

    assert not is_well("tport")
    tmp_path.joinpath("tport.yaml").write_text(here(CONFIG.read_text(), "tport"))
    tport.start(*words("tport")).wait_for("tport: ready")
    assert is_well("tport")
    data = f"--data-dir={tmp_path / 'tport'}"
    shell, dash_c = composed["token"]["entrypoint"]
    done = tport.shell(f"{shell} {dash_c} '{words('token')[0]}'", [data])
    assert done.returncode == 0, done.stderr
    assert (handed_over / "token").stat().st_mode & 0o777 == 0o600

    python, *server = composed["hello"]["entrypoint"]
    assert python == "python3"
    app = [word.replace("8000", str(app_port)) for word in server]
    tport.spawn([sys.executable, *app, "--bind=127.0.0.1"])
    folder = {"TPORT_DATA_DIR": str(tmp_path / "agent")}
    tport.start(*words("agent"), env=folder).wait_for("tport: ready")
    wait_until(lambda: is_well("agent"), "the agent's health")

    person = Client(tport.output(data, "ca", "export"), port)
    link = tport.output(data, "users", "add", "--roles=access", "--format=text", "alice")
    person.sign_up(link, PASSWORD)
    page = person.open(f"https://hello.tport.localhost:{port}/")
    assert (page.status, "Directory listing for /" in page.text) == (200, True)


def asked(service: Mapping[str, Any]) -> Sequence[str]:
    """Return the command that tells a service's health."""
    test: list[str] = service["healthcheck"]["test"]
    assert test[0] == "CMD"
    return test[1:]
