"""A bundle has in it what helps, and no secret of the many that lie beside that."""

from __future__ import annotations

import base64
import json
import stat
import tarfile
from pathlib import Path

import pytest
import trio

from tests.stack import DOMAIN, PASSWORD, Stack, open_stack
from tport.cli import run

SECRET_FILE = "canary-secret-in-a-file-0123456789abcdef"
CANARIES = (
    "canary-auth-token-0123456789abcdef",
    "canary-static-token-0123456789abcdef",
    "canary-header-value",
    "canary-command-argument",
    "canary-path-of-an-application",
    SECRET_FILE,
    "canary-logged-cookie",
    "canary-logged-query",
)
HMAC = base64.urlsafe_b64encode(b"canary-eab-hmac-of-the-ca").decode().rstrip("=")


def written(stack: Stack, folder: Path) -> Path:
    """Write a file that says where the running cluster is, with a secret wherever one may be."""
    secret = folder / "secret"
    secret.write_text(f"{SECRET_FILE}\n")
    secret.chmod(0o600)
    log = folder / "tport.log"
    log.write_text(
        "a line that was cut\n"
        "tport: warning: grafana does not answer\n"
        f"Cookie: __Host-x={CANARIES[6]}\nGET /path?{CANARIES[7]}\nplain words with {CANARIES[0]}\n"
    )
    config = stack.running.config
    file = folder / "tport.yaml"
    file.write_text(
        f"""
tport:
  data_dir: {config.data_dir}
  diag_addr: {config.diag_addr}
  auth_token: {CANARIES[0]}
  log: {{output: {log}}}
auth_service:
  enabled: yes
  cluster_name: {DOMAIN}
  tokens: ["app:{CANARIES[1]}", "app:{secret}"]
proxy_service:
  enabled: yes
  public_addr: {DOMAIN}:3080
  acme: {{eab: {{kid: a-kid, hmac: {HMAC}}}}}
app_service:
  enabled: yes
  apps:
  - name: grafana
    uri: http://localhost:3000/{CANARIES[4]}
    commands: [{{name: load, command: [/bin/cat, {CANARIES[3]}]}}]
    rewrite: {{headers: ['X-Api-Key: {CANARIES[2]}']}}
"""
    )
    return file


async def bundle(file: Path, to: Path) -> dict[str, str]:
    """Run the command, and return its files by name."""
    arguments = ["--config", str(file), "diag", str(to)]
    assert await trio.to_thread.run_sync(run, arguments) == 0
    return unpacked(to)


def unpacked(file: Path) -> dict[str, str]:
    found = {}
    with tarfile.open(file) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            found[member.name.partition("/")[2]] = content.read().decode()
    return found


async def test_ops_03_it_tells_what_helps_and_none_of_the_secrets(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-03: canaries in the configuration, the log, the environment, sessions, tokens and keys."""
    monkeypatch.setenv("CANARY_PASSWORD", "canary-of-the-environment")
    async with open_stack(diagnostics=True, drain=False) as stack:
        alice = await stack.user("alice-canary")
        await alice.get("echo", "/canary-path?canary-query")
        token = await stack.admin.create_token(
            roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
        )
        folder = stack.running.config.data_dir
        kept = (folder / "auth" / "factors.key").read_text().strip()
        admin = (folder / "auth" / "admin.pem").read_text()
        files = await bundle(written(stack, tmp_path), tmp_path / "bundle.tar.gz")

    assert set(files) == {
        *("versions.json", "settings.json", "readyz.json", "metrics.txt", "log.txt"),
        *("database.json", "status.json", "certificates.json"),
    }
    assert json.loads(files["readyz.json"])["status"] == "ok"
    assert "tport_requests_total" in files["metrics.txt"]
    assert "grafana does not answer" in files["log.txt"]
    assert json.loads(files["database.json"])["problems"] == []
    assert json.loads(files["versions.json"])["tport"]
    assert "grafana" in files["settings.json"]
    assert {each["app"] for each in json.loads(files["status.json"])["offers"]} >= {"echo", "raw"}
    assert stat.S_IMODE((tmp_path / "bundle.tar.gz").stat().st_mode) == 0o600

    told = "\n".join(files.values()) + "".join(capfd.readouterr())
    keys = [line for line in admin.splitlines() if not line.startswith("-----")]
    for secret in (
        *(*CANARIES, HMAC, PASSWORD, kept, alice.web, *alice.apps.values()),
        *(token.token, *token.token.split("."), *keys),
        *("alice-canary", "canary-path", "canary-query", "canary-of-the-environment"),
    ):
        assert secret not in told, secret


async def test_where_nothing_runs_it_says_what_is_not_in_it_and_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with open_stack(diagnostics=True, drain=False) as stack:
        file = written(stack, tmp_path)
    tmp_path.joinpath("tport.log").unlink()

    files = await bundle(file, tmp_path / "bundle.tar.gz")

    assert set(files) == {"versions.json", "settings.json", "missing.txt"}
    assert "readyz.json: nobody answers at diag_addr" in files["missing.txt"]
    said = capfd.readouterr().err
    assert "no cluster's part in it" in said
    assert not any(canary in said + "".join(files.values()) for canary in CANARIES)


async def test_a_faulty_file_is_not_quoted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tport.yaml"
    file.write_text(f"tport: {{log: {{severity: {CANARIES[2]}}}}}\n{CANARIES[3]}: 1\n")

    files = await bundle(file, tmp_path / "bundle.tar.gz")

    told = "".join(files.values()) + "".join(capfd.readouterr())
    assert "the file has 2 faults" in told
    assert not any(canary in told for canary in CANARIES)


async def test_it_overwrites_nothing(tmp_path: Path) -> None:
    there = tmp_path / "bundle.tar.gz"
    there.write_text("mine")
    file = tmp_path / "tport.yaml"
    file.write_text("auth_service: {enabled: no}\n")

    arguments = ["--config", str(file), "diag", str(there)]
    assert await trio.to_thread.run_sync(run, arguments) == 6
    assert there.read_text() == "mine"
