from __future__ import annotations

import stat
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner, Result

from tport.commands.configure import app, output_path
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


def test_what_the_guides_line_prints_passes_its_own_test(tmp_path: Path) -> None:
    """Of a machine on which nothing is yet: with data it would warn that they go on."""
    written = configure(*GUIDE, f"--data-dir={tmp_path / 'new'}")

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


@pytest.mark.parametrize("mode", [0o666, 0o644])
def test_who_else_may_write_a_file_is_a_warning_where_nothing_runs_by_it(
    tmp_path: Path, mode: int
) -> None:
    """OPS-06: as in a checkout under umask 0; the start still refuses it."""
    tmp_path.chmod(0o777)
    file = tmp_path / "t.yaml"
    file.write_text("proxy_service: {enabled: yes}\n")
    file.chmod(mode)

    result = configure(f"--test={file}")

    assert (result.exit_code, result.stdout) == (0, f"{file}: ok\n")
    assert result.stderr.startswith(f"tport: warning: {file}: may be ")
    with pytest.raises(ConfigError, match="by others"):
        configure("--check", str(file))


def test_a_file_that_is_written_where_others_may_write_is_said_to_be_there(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    file = tmp_path / "t.yaml"

    result = configure("--cluster-name=a.test", f"--data-dir={tmp_path}/d", f"--output={file}")

    assert result.exit_code == 0
    assert f"wrote {file}" in result.stderr
    assert f"chmod o-w {tmp_path}" in result.stderr


def test_the_test_opens_the_certificates(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    cert, key = pair
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "key.pem"
    other.write_bytes(trustme.CA().issue_cert("b.test").private_key_pem.bytes())

    def outcome(cert: Path, key: Path) -> str:
        pairs = f"[{{key_file: {key}, cert_file: {cert}}}]"
        return configure("--test=-", stdin=f"proxy_service: {{https_keypairs: {pairs}}}").output

    said = outcome(cert, key)
    assert said.endswith("-: ok\n")
    assert "is neither in the file nor known to this machine" in said
    use = f"stdin:1:34: {cert} can't be used with the key"
    assert outcome(cert, other) == (
        f"{use} {other}: the certificate and the private key don't belong together\n"
    )
    assert outcome(key, key) == (
        f"stdin:1:34: {key} can't be used with the key {key}: this is no certificate in PEM form\n"
    )
    assert outcome(cert, cert) == f"{use} {cert}: this is no private key in PEM form\n"
    gone = tmp_path / "gone"
    assert outcome(cert, gone) == (f"stdin:1:34: {gone} can't be read: no such file or directory\n")


def test_certificates_given_by_flags_are_opened_before_they_are_written(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    cert, key = pair

    result = configure("--cluster-name=a.test", f"--cert-file={cert}", f"--key-file={key}")

    assert f'cert_file: "{cert}"' in result.stdout
    with pytest.raises(ConfigError, match="can't be read"):
        configure("--cluster-name=a.test", f"--cert-file={tmp_path}/no", f"--key-file={key}")


def test_in_a_pipe_nothing_is_asked() -> None:
    with pytest.raises(ConfigError) as caught:
        configure()

    assert caught.value.hint == "write: tport configure --cluster-name=tport.example.com"


def test_the_test_goes_alone() -> None:
    with pytest.raises(ConfigError, match="--test goes alone"):
        configure("--test=-", "--cluster-name=a.test")


@pytest.mark.parametrize("output", ["", "-", "stdout"])
def test_stdout_has_three_names(output: str) -> None:
    assert configure(*GUIDE, f"--output={output}").stdout == configure(*GUIDE).stdout


def test_a_file_is_named_as_teleport_does_it_too(tmp_path: Path) -> None:
    assert output_path("file") == Path("/etc/tport.yaml")
    assert output_path("file:///srv/a.yaml") == Path("/srv/a.yaml")
    assert output_path("a.yaml") == Path("a.yaml")
    with pytest.raises(ConfigError, match="has no absolute path"):
        output_path("file://a.yaml")


def test_folders_that_are_missing_are_made(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "tport.yaml"

    configure(*GUIDE, f"--output=file://{file}")

    assert file.exists()
    with pytest.raises(ConfigError, match="its folder is a file"):
        configure(*GUIDE, f"--output={file}/tport.yaml")


def test_a_port_that_needs_a_right_is_told_with_the_way_to_it(tmp_path: Path) -> None:
    assert "tport install systemd" in configure(*GUIDE, f"--output={tmp_path}/a").stderr
    plain = configure("--cluster-name=a.test", f"--output={tmp_path}/b").stderr
    assert "tport install systemd" not in plain


def test_data_that_is_there_already_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "old" / "auth").mkdir(parents=True)

    def told(folder: Path) -> str:
        return configure("--cluster-name=a.test", f"--data-dir={folder}").stderr

    assert told(tmp_path / "gone") == told(tmp_path / "empty") == ""
    assert f"warning: {tmp_path}/old isn't empty" in told(tmp_path / "old")


def test_the_formats_version_is_teleports(tmp_path: Path) -> None:
    assert "\nversion: v3\n" in configure(*GUIDE).stdout
    assert "\nversion: v2\n" in configure(*GUIDE, "--version=v2").stdout
    with pytest.raises(ConfigError, match="--version: expected v1, v2 or v3, found 'v9'"):
        configure(*GUIDE, "--version=v9")


# --- Questions -------------------------------------------------------------------------------------


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tport.commands.configure._is_terminal", lambda: True)


@pytest.mark.usefixtures("at_a_terminal")
def test_four_answers_make_a_file_that_loads() -> None:
    """In a pipe the file goes there at once; what is asked stands on stderr."""
    answers = ["tport.example.com", "1", "alice@example.com", "http://localhost:8888", ""]

    asked = configure(stdin="\n".join(answers) + "\n")

    same = configure(*GUIDE, "--app-name=jupyter", "--app-uri=http://localhost:8888")
    assert asked.stdout.endswith(same.stdout)  # the runner's terminal has the answers before it


@pytest.mark.usefixtures("at_a_terminal")
def test_what_a_flag_says_is_not_asked() -> None:
    asked = configure("--interactive", *GUIDE, "--app-uri=http://localhost:3000", stdin="boards\n")

    assert 'name: "boards"' in asked.stdout
    assert asked.stderr.count("[") == 1  # one question, with one default


@pytest.mark.usefixtures("at_a_terminal")
def test_an_answer_that_is_none_is_told_and_asked_again(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    cert, key = map(str, pair)
    wrong_then_right = [
        *("", "10.0.0.1", "https://tport.example.com", "tport.example.com"),
        *("4", "2"),
        *("cert.pem", cert, cert, cert, key),
        *("localhost:3000", "http://localhost:3000"),
        *("My App", "my-app"),
    ]

    asked = configure("--interactive", stdin="\n".join(wrong_then_right) + "\n")

    for complaint in (
        "a server needs a name",
        "'10.0.0.1' is an IP address",
        "leave out 'https://'",
        "expected 1, 2 or 3",
        "expected an absolute path",
        "this is no private key in PEM form",
        "did you mean 'http://localhost:3000'?",
        "'My App' is no sub-domain",
    ):
        assert f"tport: {complaint}" in asked.stderr or complaint in asked.stderr
    assert f'cert_file: "{cert}"' in asked.stdout
    assert 'name: "my-app"' in asked.stdout


@pytest.mark.usefixtures("at_a_terminal")
@pytest.mark.parametrize(("host", "usual"), [("tport.example.com", "1"), ("tport.internal", "3")])
def test_the_usual_certificates_follow_from_the_name(host: str, usual: str) -> None:
    assert f"Which [{usual}]" in configure("-i", f"--cluster-name={host}", stdin="3\n\n").stderr


@pytest.mark.usefixtures("at_a_terminal")
def test_an_agent_is_not_asked_but_told_of_join() -> None:
    with pytest.raises(ConfigError) as caught:
        configure("--interactive", "--proxy=tport.example.com")

    assert "tport join" in caught.value.hint


def test_questions_need_a_terminal() -> None:
    with pytest.raises(ConfigError, match="stdin is no terminal"):
        configure("--interactive", *GUIDE)


# --- Files that are broken -------------------------------------------------------------------------

SERVER = """\
version: v3
tport:
  data_dir: /srv/tport
auth_service:
  enabled: "yes"
proxy_service:
  enabled: "yes"
  web_listen_addr: ":443"
  public_addr: "tport.example.com:443"
app_service:
  enabled: "yes"
  apps:
  - name: grafana
    uri: http://localhost:3000
"""

# what stands in the file, what somebody made of it, and where and what the complaint is
BROKEN = [
    ("tport:\n", "tport:\n\tnodename: a\n", "3:1", "indent with spaces"),
    ("  data_dir", "   data_dir: /a\n  log", "4:3", "begins in one column"),
    ("/srv/tport", "@srv", "3:13", "put the value in quotes"),
    ('":443"', '":443', "9:17", "nothing follows a quote"),
    ("- name: grafana", "- {name: grafana", "14:8", "a bracket is not closed"),
    ("version: v3", "version: v4", "1:10", "expected v1, v2 or v3"),
    ("auth_service", "auth_servise", "4:1", "did you mean 'auth_service'?"),
    ("  data_dir", "  datadir", "3:3", "did you mean 'data_dir'?"),
    ("  web_listen_addr", "  data_dir", "8:3", "it belongs under 'tport'"),
    ('enabled: "yes"', "enabled: maybe", "5:12", "expected yes or no, found 'maybe'"),
    ("tport.example.com:443", "https://tport.example.com", "9:16", "leave out 'https://'"),
    ("tport.example.com:443", "10.0.0.1:443", "9:16", "browsers need a DNS name here"),
    ("tport.example.com:443", "*.example.com", "9:16", "name the one host that people type"),
    (":443", ":4433333", "8:20", "is no port (1 to 65535)"),
    ("/srv/tport", "~alice/tport", "3:13", "write the whole path"),
    ("/srv/tport", "/srv/tport\n  data_dir: /srv/b", "4:3", "set twice, first in line 3; keep one"),
    ("/srv/tport", "/srv/t\n  log: {severity: loud}", "4:19", "expected debug, info, warning"),
    ("/srv/tport", "/srv/t\n  diag_addr: localhost", "4:14", "write host:port"),
    ("grafana", "gra fana", "13:11", "is no sub-domain (at most 63 of a-z, 0-9 and -"),
    ("http://localhost", "localhost", "14:10", "did you mean 'http://localhost:3000'?"),
    ("http://", "tcp://", "14:10", "expected http:// or https://"),
    ("    uri: http://localhost:3000\n", "", "13:5", "uri: is missing"),
    ("  apps:\n", "  apps:\n  - {name: grafana, uri: 'http://a'}\n", "14:11", "needs its own"),
    ("  - name", "  - public_addr: tport.example.com\n    name", "13:18", "give another name"),
    ("  apps:\n", "  apps:\n  - {name: b, uri: 'http://b', labels: [a]}\n", "13:40", "a map of"),
    (
        "proxy_service:\n",
        "proxy_service:\n  https_keypairs: [{key_file: /k.pem}]\n",
        "7:20",
        "a certificate needs its key, and a key its certificate",
    ),
    (
        "proxy_service:\n",
        "proxy_service:\n  acme: {email: alice}\n",
        "7:17",
        "as in alice@example.com",
    ),
    (
        "auth_service:\n",
        "auth_service:\n  tokens: [app:short]\n",
        "5:12",
        "make one with: openssl rand -hex 32",
    ),
]


def test_the_file_that_is_broken_below_is_sound() -> None:
    assert configure("--test=-", stdin=SERVER).output == "-: ok\n"


@pytest.mark.parametrize(("sound", "broken", "place", "advice"), BROKEN)
def test_a_broken_file_is_told_with_the_place_and_what_to_do(
    tmp_path: Path, sound: str, broken: str, place: str, advice: str
) -> None:
    file = tmp_path / "tport.yaml"
    assert sound in SERVER
    file.write_text(SERVER.replace(sound, broken, 1))

    result = configure(f"--test={file}")

    assert result.exit_code == 2
    assert result.stdout == ""
    told = [line for line in result.stderr.splitlines() if line.startswith(f"{file}:{place}: ")]
    assert any(advice in line for line in told), result.stderr
