"""What examples/ shows works: files load, scripts run, the plug-in is found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tport.cli import run
from tport.engine.config.load import load_config

EXAMPLES = Path(__file__).parents[1] / "examples"
COMPOSE = EXAMPLES / "container" / "compose.yaml"  # no file of tport's: tests/test_container.py
FILES = sorted(path for path in EXAMPLES.rglob("*.yaml") if path != COMPOSE)
SCRIPTS = sorted(EXAMPLES.rglob("*.sh"))
OTHER_SCRIPTS = [
    EXAMPLES / "dns-hook",
    EXAMPLES.parent / ".ci" / "run",
    EXAMPLES.parent / ".ci" / "make-venv",
    EXAMPLES.parent / "tests" / "clean_root.sh",
    EXAMPLES.parent / "tests" / "deps.sh",
]
TPORT = Path(sys.executable).with_name("tport")


def need(program: str) -> None:
    """Skip, or fail in CI, without a program that `make test-deps` installs."""
    if shutil.which(program) is None:
        missing = f"no `{program}`: make test-deps installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_configuration_loads_without_a_complaint_or_a_note(path: Path) -> None:
    config = load_config(path)

    assert config.notes == ()
    assert config.app_service.faulty == ()


def test_every_example_is_in_the_list() -> None:
    listed = set(re.findall(r"\]\(([^)]+)\)", EXAMPLES.joinpath("README.md").read_text()))

    assert {path.name for path in EXAMPLES.iterdir() if path.suffix in (".yaml", ".sh")} <= listed
    assert all(EXAMPLES.joinpath(name).exists() for name in listed)


@pytest.mark.parametrize("path", [*SCRIPTS, *OTHER_SCRIPTS], ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    need("shellcheck")
    done = subprocess.run(
        ["shellcheck", path], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.stdout == ""


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_runs_to_its_end_and_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    """With `set -euo pipefail`: any step that fails ends it with a status other than 0."""
    need("curl")
    assert "\nset -euo pipefail\n" in path.read_text()
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("TPORT_")}
    done = subprocess.run(
        [path],
        env=env | {"TPORT": str(TPORT), "HOME": str(home), "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert list(temporary.iterdir()) == []
    assert list(home.iterdir()) == []


@pytest.fixture
def quickstart(tmp_path: Path) -> Iterator[Path]:
    """The quickstart's file, running: in a folder of its own, and on ports that are free."""
    file = tmp_path / "tport.yaml"
    text = EXAMPLES.joinpath("quickstart", "tport.yaml").read_text()
    text = text.replace(
        'proxy_service:\n  enabled: "yes"',
        'proxy_service:\n  web_listen_addr: "127.0.0.1:0"\n  enabled: "yes"',
    ).replace(
        'auth_service:\n  enabled: "yes"',
        'auth_service:\n  listen_addr: "127.0.0.1:0"\n  enabled: "yes"',
    )
    assert text.count("127.0.0.1:0") == 2
    file.write_text(text)
    process = subprocess.Popen([TPORT, "start", "--config", file], stderr=subprocess.DEVNULL)
    try:
        yield file
    finally:
        process.terminate()
        status = process.wait(timeout=40)
    assert status in (0, 143)


def test_the_quickstart_is_a_working_cluster_and_every_list_of_it_parses(
    quickstart: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def tport(*args: str) -> str:
        assert run(["--config", str(quickstart), *args]) == 0
        return capfd.readouterr().out

    status = json.loads(tport("status", "--wait", "--format=json"))
    assert status["cluster"] == "tport.localhost"
    made = json.loads(tport("users", "add", "--roles=access,editor", "alice", "--format=json"))
    assert made["url"].startswith(f"https://{status['proxies'][0]}/web/invite/")
    assert set(json.loads(tport("tokens", "add", "--format=json"))) == {"token", "roles", "expires"}
    assert [user["name"] for user in json.loads(tport("users", "ls", "--format=json"))] == ["alice"]
    assert isinstance(json.loads(tport("users", "reset", "alice", "--format=json")), dict)
    assert json.loads(tport("tokens", "ls", "--format=json"))
    assert isinstance(json.loads(tport("apps", "ls", "--format=json")), list)
    tport("users", "rm", "alice")
    assert json.loads(tport("users", "ls", "--format=json")) == []
    assert tport("ca", "export").startswith("-----BEGIN CERTIFICATE-----\n")

    for args in (["users", "ls"], ["tokens", "ls"], ["status"], ["users", "ls", "--format=json"]):
        closed_early = subprocess.run(
            [
                "bash",
                "-c",
                'set -o pipefail; "$0" "$@" | head -n 1',
                TPORT,
                "-c",
                quickstart,
                *args,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert closed_early.returncode == 0
        assert closed_early.stderr in ("", NO_USERS)


NO_USERS = "tport: no users; invite one with: tport users add --roles=access NAME\n"


def test_the_plugin_adds_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Laid out as pip would install it, from what its pyproject.toml says."""
    project = tomllib.loads(EXAMPLES.joinpath("plugin", "pyproject.toml").read_text())["project"]
    [(name, target)] = project["entry-points"]["tport.commands"].items()
    shutil.copy(EXAMPLES / "plugin" / f"{target.partition(':')[0]}.py", tmp_path)
    info = tmp_path / "tport_hello-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: tport-hello\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(f"[tport.commands]\n{name} = {target}\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert name == "hello"
    assert run(["hello", "alice"]) == 0
    assert capsys.readouterr().out == "hello alice\n"


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("present", 'update add _acme-challenge.a.test. 60 TXT "v"'),
        ("cleanup", 'update delete _acme-challenge.a.test. TXT "v"'),
    ],
)
def test_the_hook_for_dns_changes_one_value_of_one_record(
    tmp_path: Path, what: str, change: str
) -> None:
    nsupdate = tmp_path / "nsupdate"
    nsupdate.write_text("#!/bin/sh\ncat\n")
    nsupdate.chmod(0o700)

    done = subprocess.run(
        [EXAMPLES / "dns-hook", what, "_acme-challenge.a.test", "v"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )

    assert done.stdout.splitlines() == [change, "send"]
