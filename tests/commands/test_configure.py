from __future__ import annotations

import stat
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner, Result

from tport.commands.configure import app
from tport.engine.errors import AlreadyExists, ConfigError

GUIDE = ["--acme", "--acme-email=alice@example.com", "--cluster-name=tport.example.com"]


def configure(*args: str, stdin: str = "") -> Result:
    result = CliRunner().invoke(app, list(args), input=stdin, catch_exceptions=False)
    assert isinstance(result, Result)
    return result


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key."""
    issued = trustme.CA().issue_cert("tport.example.com")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return cert, key


def test_what_the_guides_line_prints_passes_its_own_test() -> None:
    written = configure(*GUIDE)

    tested = configure("--test=-", stdin=written.stdout)

    assert (written.exit_code, written.stderr) == (0, "")
    assert (tested.exit_code, tested.stdout, tested.stderr) == (0, "-: ok\n", "")


def test_output_makes_a_new_file_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "tport.yaml"

    result = configure(*GUIDE, f"--output={file}")

    assert result.stdout == ""
    assert f"wrote {file}; next: tport start --config={file}" in result.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert configure(f"--test={file}").stdout == f"{file}: ok\n"


def test_output_never_overwrites(tmp_path: Path) -> None:
    file = tmp_path / "tport.yaml"
    file.write_text("mine")

    with pytest.raises(AlreadyExists, match="exists and is left as it is"):
        configure(*GUIDE, f"--output={file}")

    assert file.read_text() == "mine"


def test_a_bad_file_has_every_complaint_on_stderr_and_status_2(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "auth_service: {enabled: maybe}\napp_service: {apps: [{name: A, uri: 'http://a'}]}"
    )

    result = configure(f"--test={file}")

    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [
        [f"{file}:1:25", "auth_service.enabled"],
        [f"{file}:2:29", "app_service.apps[0].name"],
    ]


def test_an_app_that_start_would_leave_out_fails_the_test() -> None:
    result = configure("--test=-", stdin="app_service: {apps: [{name: A, uri: 'http://a'}]}")

    assert result.exit_code == 2
    assert "stdin:1:29: app_service.apps[0].name: 'A' is no sub-domain" in result.stderr


def test_notes_do_not_fail_the_test() -> None:
    result = configure("--test=-", stdin="db_service: {}")

    assert (result.exit_code, result.stdout) == (0, "-: ok\n")
    assert result.stderr == "tport: stdin:1:1: db_service: has no effect in tport\n"


def test_the_test_opens_the_certificates(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    cert, key = pair
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "key.pem"
    other.write_bytes(trustme.CA().issue_cert("b.test").private_key_pem.bytes())

    def outcome(cert: Path, key: Path) -> str:
        pairs = f"[{{key_file: {key}, cert_file: {cert}}}]"
        return configure("--test=-", stdin=f"proxy_service: {{https_keypairs: {pairs}}}").output

    assert outcome(cert, key) == "-: ok\n"
    assert outcome(cert, other) == f"stdin:1:34: {other} is not the key of {cert}\n"
    assert outcome(key, key) == f"stdin:1:34: {key} holds no certificate in PEM\n"
    assert outcome(cert, cert) == (
        f"stdin:1:34: {cert} holds no key in PEM, or one with a password\n"
    )
    gone = tmp_path / "gone"
    assert outcome(cert, gone) == (
        f"stdin:1:34: {gone} cannot be read: No such file or directory\n"
    )


def test_certificates_given_by_flags_are_opened_before_they_are_written(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    cert, key = pair

    result = configure("--cluster-name=a.test", f"--cert-file={cert}", f"--key-file={key}")

    assert f'cert_file: "{cert}"' in result.stdout
    with pytest.raises(ConfigError, match="cannot be read"):
        configure("--cluster-name=a.test", f"--cert-file={tmp_path}/no", f"--key-file={key}")


def test_in_a_pipe_nothing_is_asked() -> None:
    with pytest.raises(ConfigError) as caught:
        configure()

    assert caught.value.hint == "write: tport configure --cluster-name=tport.example.com"


def test_the_test_goes_alone() -> None:
    with pytest.raises(ConfigError, match="--test goes alone"):
        configure("--test=-", "--cluster-name=a.test")


def test_a_terminal_is_asked_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tport.commands.configure._is_terminal", lambda: True)

    result = configure(stdin="tport.example.com\n")

    assert 'public_addr: "tport.example.com:3080"' in result.stdout
    assert "Cluster name" in result.stderr
