"""What is wrong is said in a clear line, with the right exit status, and nothing is lost by it."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from socket import create_server, socket

import pytest
import trio
import trustme

from tests.e2e.client import Client
from tests.e2e.harness import (
    Background,
    Cluster,
    Tport,
    start_cluster,
    tport_home,
    wait_until,
)
from tests.ports import free_port
from tests.stack import open_stack

pytestmark = pytest.mark.e2e

Done = subprocess.CompletedProcess[str]


def assert_clear(done: Done, status: int, *words: str) -> None:
    """It ended as it should, and said so in lines of ours, without a traceback."""
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert all(line.startswith("tport: ") for line in done.stderr.splitlines()), done.stderr


# --- Files -------------------------------------------------------------------------------------------

WRONG_FILES = {
    "no YAML": ("tport: [\n", 2, "no YAML"),
    "a tab": ("auth_service:\n\tenabled: yes\n", 2, "no YAML"),
    "unknown section": ("nonsense: 1\n", 1, "nonsense: unknown setting"),
    "misspelt key": ("auth_service:\n  enabeld: yes\n", 2, "did you mean 'enabled'?"),
    "neither yes nor no": ("auth_service:\n  enabled: maybe\n", 2, "expected yes or no"),
    "set twice": ("auth_service:\n  enabled: yes\n  enabled: no\n", 3, "is set twice"),
    "a URL for an address": (
        "proxy_service:\n  public_addr: https://tport.example.com\n",
        2,
        "leave out 'https://'",
    ),
    "a name that is none": (
        "app_service:\n  enabled: yes\n  apps:\n  - name: gra fana\n    uri: http://localhost:1\n",
        4,
        "'gra fana' is no sub-domain",
    ),
    "no URI": ("app_service:\n  enabled: yes\n  apps:\n  - name: grafana\n", 4, "uri: is missing"),
    "another scheme": (
        "app_service:\n  enabled: yes\n  apps:\n  - name: grafana\n    uri: ftp://localhost\n",
        5,
        "expected http:// or https://",
    ),
    "two of one name": (
        "app_service:\n  enabled: yes\n  apps:\n"
        "  - {name: a, uri: 'http://localhost:1'}\n  - {name: a, uri: 'http://localhost:2'}\n",
        5,
        "each app needs its own",
    ),
    "a reserved header": (
        "app_service:\n  enabled: yes\n  apps:\n  - name: a\n    uri: http://localhost:1\n"
        "    rewrite:\n      headers:\n      - 'Teleport-Jwt-Assertion: forged'\n",
        8,
        "Teleport-Jwt-Assertion is reserved",
    ),
    "a certificate that is not there": (
        "proxy_service:\n  https_keypairs:\n  - key_file: /nowhere/key.pem\n"
        "    cert_file: /nowhere/cert.pem\n",
        3,
        "/nowhere/cert.pem",
    ),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_file_is_told_with_its_line(tport: Tport, tmp_path: Path, name: str) -> None:
    """OPS-06: by `configure --test` first on the line, for editors; by `start` too, which then ends with 2."""
    text, line, words = WRONG_FILES[name]
    file = tmp_path / "tport.yaml"
    quiet = "proxy_service" not in text  # no port of this machine's is taken by the test
    file.write_text(text + ("proxy_service: {enabled: no}\n" if quiet and "apps" in text else ""))
    told = re.compile(rf"^{re.escape(str(file))}:{line}:\d+: .*{re.escape(words)}", re.MULTILINE)

    checked = tport.run("configure", "--test", file)
    assert checked.returncode == 2
    assert checked.stdout == ""
    assert told.search(checked.stderr), checked.stderr

    roles = ["--roles=app"] if "apps" in text else []
    started = tport.run("start", f"--config={file}", f"--data-dir={tmp_path / 'data'}", *roles)
    assert_clear(started, 2, words)
    assert re.search(rf"{re.escape(str(file))}:{line}:\d+: ", started.stderr), started.stderr


def test_a_good_file_is_ok_and_one_bad_application_leaves_the_others_up(cluster: Cluster) -> None:
    with socket_app(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as port:
        agent = cluster.start_agent_of(
            f"""\
app_service:
  enabled: yes
  apps:
  - {{name: good, uri: "http://127.0.0.1:{port}"}}
  - {{name: bad one, uri: "http://127.0.0.1:{port}"}}
""",
            "mixed",
        )
        cluster.wait_for_app("good", agent)
        assert re.search(
            r"tport: error: .*mixed\.yaml:\d+:\d+: .*'bad one' is no sub-domain.*; "
            r"this application is not served",
            agent.stderr,
        )
        assert cluster.tell("configure", "--test", cluster.file) == f"{cluster.file}: ok"
        agent.stop()


# --- Joining -----------------------------------------------------------------------------------------


def join(cluster: Cluster, name: str, token: Path, *flags: str, address: str = "") -> Done:
    """Try to start an agent in a folder of its own."""
    return cluster.run(
        "start",
        "--roles=app",
        f"--token={token}",
        f"--auth-server={address or cluster.address}",
        f"--app-name={name}",
        "--app-uri=http://localhost:9",
        f"--data-dir={cluster.folder / name}",
        *flags,
    )


@pytest.mark.parametrize(
    "uri",
    ["http://h:1/$(id)", "http://h:1/;id", "http://h:1/a&id", "http://h:1/'$(id)'", "http://h:1/*"],
)
def test_ops_11_a_command_that_is_shown_can_be_pasted_whatever_is_in_it(
    cluster: Cluster, uri: str
) -> None:
    """OPS-11: by a POSIX shell each of its words is what it was made of, and nothing else is run."""
    said = cluster.tell("tokens", "add", "--type=app", "--app-name=shown", f"--app-uri={uri}")
    command = "\n".join(said[said.index("tport start") :].splitlines()[:2])

    ran = subprocess.run(
        ["sh", "-c", 'tport() { printf "%s\\n" "$@"; }\n' + command],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.splitlines()[-2:] == ["--app-name=shown", f"--app-uri={uri}"]
    assert ran.stdout.startswith("start\n--roles=app\n")


def token_file(cluster: Cluster, name: str, *flags: str) -> Path:
    path = cluster.folder / f"{name}.token"
    path.touch(0o600)
    path.write_text(cluster.tell("tokens", "add", "--format=text", *flags))
    return path


def test_a_token_that_is_used_up_is_told(cluster: Cluster) -> None:
    token = token_file(cluster, "once", "--max-uses=1")
    agent = cluster.start_agent("first-use", "http://localhost:9", token=token)
    assert_clear(join(cluster, "second-use", token), 3, "already used", "tport tokens add")
    agent.stop()


async def test_a_token_that_has_expired_is_told(tmp_path: Path) -> None:
    async with open_stack() as stack:
        made = await stack.admin.create_token(
            roles=("app",), ttl=1, app_name="", app_uri="", max_uses=0
        )
        token = tmp_path / "token"
        token.touch(0o600)
        token.write_text(made.token)
        await trio.sleep(1.1)
        with tport_home(tmp_path) as tport:
            done = await trio.to_thread.run_sync(
                lambda: tport.run(
                    "start",
                    "--roles=app",
                    f"--token={token}",
                    f"--auth-server=tport.localhost:{stack.port}",
                    "--app-name=late",
                    "--app-uri=http://localhost:9",
                    f"--data-dir={tmp_path / 'late'}",
                )
            )
    assert_clear(done, 3, "token expired at", "tport tokens add")


def test_a_token_that_is_deleted_garbled_or_empty_is_told(cluster: Cluster) -> None:
    token = token_file(cluster, "gone")
    cluster.tell("tokens", "rm", token.read_text()[:8])
    assert_clear(join(cluster, "gone", token), 3, "token", "tport tokens add")
    token.write_text("garbage")
    assert_clear(join(cluster, "gone", token), 2, "no join token", "tport tokens add")
    token.write_text("")
    assert_clear(join(cluster, "gone", token), 2, "is empty")
    token.unlink()
    assert_clear(join(cluster, "gone", token), 2, str(token), "no such file")
    assert not (cluster.folder / "gone" / "agent" / "agent.json").exists()


def test_a_token_for_another_application_is_told_and_the_right_one_then_does(
    cluster: Cluster,
) -> None:
    """Also when the folder holds an identity that is limited to another application."""
    wrong = join(cluster, "wanted", cluster.token("other"))
    assert_clear(wrong, 3, "lets it offer only other", "--app-name=wanted")

    folder = cluster.folder / "wanted"
    cluster.start_agent("other", "http://localhost:9", data_dir=folder).stop()
    agent = cluster.start_agent("wanted", "http://localhost:9", data_dir=folder)
    assert "it joins anew" in agent.stderr
    agent.stop()


def test_another_clusters_pin_is_told(cluster: Cluster) -> None:
    token = token_file(cluster, "pin")
    secret, _, pin = token.read_text().partition(".")
    token.write_text(f"{secret}.{'0' * 64}")
    assert_clear(join(cluster, "pin", token), 3, "not those of the join token", "tport tokens add")

    token.write_text(secret)
    assert_clear(join(cluster, "pin", token), 5, "does not verify", "--ca-pin")
    wrong = join(cluster, "pin", token, "--ca-pin=zonk")
    assert_clear(wrong, 2, "--ca-pin: 'zonk' is no CA pin")
    token.write_text(f"{secret}.{pin}")
    agent = cluster.start_agent("pin", "http://localhost:9", token=token)
    agent.stop()


def test_an_agent_of_another_cluster_is_told_which_one_it_joined(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder = cluster.folder / "elsewhere"
    cluster.start_agent("elsewhere", "http://localhost:9", data_dir=folder).stop()
    with start_cluster(tmp_path) as other:
        agent = other.start(
            "start",
            "--roles=app",
            f"--data-dir={folder}",
            f"--auth-server={other.address}",
            "--app-name=elsewhere",
            "--app-uri=http://localhost:9",
        )
        agent.wait_for("is not of cluster 'tport.localhost', which this agent joined")
        agent.wait_for("--data-dir")
        assert agent.stop(3) == 143


def test_a_proxy_that_cannot_be_reached_is_told_at_once(cluster: Cluster) -> None:
    """At an agent's first start: there is nothing yet to go on with."""
    token = token_file(cluster, "far")
    nowhere = f"127.0.0.1:{free_port()}"
    assert_clear(join(cluster, "far", token, address=nowhere), 5, f"{nowhere}: connection refused")
    unknown = join(cluster, "far", token, address="nowhere.invalid:3080")
    assert unknown.returncode == 5
    assert "nowhere.invalid:3080: " in unknown.stderr
    with socket_app(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        address = f"127.0.0.1:{port}"
        plain = join(cluster, "far", token, address=address)
        assert_clear(plain, 5, address, "does not speak TLS", "give the proxy's address")
    assert not (cluster.folder / "far" / "agent" / "agent.json").exists()


def test_a_port_in_use_is_told(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(cluster.file.read_text().replace(str(cluster.data_dir), str(tmp_path / "d")))
    done = cluster.run("start", f"--config={other}")
    assert_clear(done, 2, f"port {cluster.port} is in use by tport, process")
    assert not (tmp_path / "d").exists()


def test_a_data_folder_in_use_or_unusable_is_told(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(cluster.file.read_text().replace(str(cluster.port), str(free_port())))
    assert_clear(
        cluster.run("start", f"--config={other}"),
        2,
        f"{cluster.data_dir}/auth: is in use by another tport process",
        "--data-dir",
    )
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    done = cluster.run("start", f"--config={other}", f"--data-dir={in_the_way}")
    assert_clear(done, 2, f"{in_the_way}/auth: can't be used", "--data-dir")


# --- Applications that fail --------------------------------------------------------------------------


@contextmanager
def socket_app(answer: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer each connection's first bytes with `answer`, and hang up; yield the port."""
    with closing(create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                try:
                    with connection:
                        talk(connection)
                except OSError:
                    pass

        def talk(connection: socket) -> None:
            connection.settimeout(5)
            if tls is None:
                answer_on(connection)
            else:
                with tls.wrap_socket(connection, server_side=True) as wrapped:
                    answer_on(wrapped)

        def answer_on(connection: socket) -> None:
            connection.recv(65536)
            connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


SSH = b"SSH-2.0-hello\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Client]]:
    """A cluster whose applications all fail, and somebody who has opened each."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(tls)
    with ExitStack() as stack:
        cluster = stack.enter_context(start_cluster(tmp_path_factory.mktemp("failing")))
        uris = {
            "down": f"http://127.0.0.1:{free_port()}",
            "garbage": f"http://127.0.0.1:{stack.enter_context(socket_app(SSH))}",
            "hangs-up": f"http://127.0.0.1:{stack.enter_context(socket_app(b''))}",
            "not-https": f"https://127.0.0.1:{stack.enter_context(socket_app(OK))}",
            "not-http": f"http://127.0.0.1:{stack.enter_context(socket_app(OK, tls))}",
            "unverified": f"https://localhost:{stack.enter_context(socket_app(OK, tls))}",
            "no-name": "http://nowhere.invalid:80",
        }
        apps = "\n".join(f'  - {{name: {name}, uri: "{uri}"}}' for name, uri in uris.items())
        agent = cluster.start_agent_of(f"app_service:\n  enabled: yes\n  apps:\n{apps}\n", "bad")
        cluster.wait_for_app("down", agent)
        yield cluster, cluster.signed_in("alice")
        assert_no_traceback(agent, cluster.proxy)


def assert_no_traceback(*processes: Background) -> None:
    for process in processes:
        assert process.status is None, process.tell()
        assert "Traceback" not in process.stderr, process.tell()


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("down", "connection refused"),
        ("garbage", "makes no sense"),
        ("hangs-up", "closed the connection without an answer"),
        ("not-https", "does not speak TLS"),
        ("not-http", "TLS"),
        ("unverified", "certificate"),
        ("no-name", "nowhere.invalid"),
    ],
)
def test_an_application_that_fails_is_a_page_that_names_the_hop_and_the_cause(
    failing: tuple[Cluster, Client], app: str, words: str
) -> None:
    cluster, alice = failing
    url = cluster.app_url(app)
    page = alice.open(url)
    assert page.status == 502, page.text
    assert words in page.text
    for hop in ("You", "Proxy", "Agent"):
        assert hop.lower() in page.text.lower()

    answer = alice.request("GET", url, {"Accept": "application/json"})
    assert answer.status == 502
    told = json.loads(answer.body)
    assert words in told["cause"]
    assert told["hop"] == "app"
    assert told["request_id"]


def test_an_application_that_comes_back_is_served_at_once(cluster: Cluster) -> None:
    port = free_port()
    agent = cluster.start_agent("phoenix", f"http://127.0.0.1:{port}")
    alice = cluster.signed_in("phoenix")
    url = cluster.app_url("phoenix")
    assert alice.open(url).status == 502
    server = cluster.spawn(["python3", "-m", "http.server", str(port), "--bind", "127.0.0.1"])
    wait_until(lambda: alice.request("GET", url).status == 200, "the application back")
    server.kill9()
    agent.stop()
