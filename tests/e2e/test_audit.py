"""`tport audit` at a real cluster: what was done is found, followed, written out, and checked."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.harness import Cluster, start_cluster, wait_until
from tests.e2e.started_upstream import start_upstream


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("audit")
    with start_cluster(folder) as cluster:
        upstream = start_upstream(cluster)
        cluster.start_agent("grafana", upstream.url)
        alice = cluster.signed_in("alice")
        alice.open(cluster.app_url("grafana", "/d/board?token=sesame"))
        yield cluster


def test_a_request_is_found_on_the_command_line(cluster: Cluster) -> None:
    def found() -> list[dict[str, object]]:
        told = cluster.tell(
            "audit", "ls", "--requests", "--user=alice", "--grep=board", "--format=json"
        )
        return list(json.loads(told))

    wait_until(found, "the request in the log")
    [event] = found()
    assert (event["app_name"], event["path"], event["status_code"]) == ("grafana", "/d/board", 200)
    assert "sesame" not in json.dumps(event)
    assert (
        json.loads(cluster.tell("audit", "ls", "--requests", "--user=bob", "--format=json")) == []
    )
    table = cluster.tell("audit", "ls", "--requests", "--app=grafana", "--since=1h")
    assert table.splitlines()[0].split()[:3] == ["TIME", "USER", "APP"]
    assert "/d/board" in table


def test_events_are_found_by_type_and_time_and_written_out(cluster: Cluster) -> None:
    [made] = json.loads(
        cluster.tell("audit", "ls", "--type=user.create", "--since=1d", "--format=json")
    )
    assert (made["name"], made["code"]) == ("alice", "T1002I")
    assert cluster.command("audit", "ls", "--until=2000-01-01").stdout == ""

    lines = cluster.tell("audit", "export").splitlines()
    numbers = [json.loads(line)["seq"] for line in lines]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[-1] == 1


def test_following_tells_what_happens_next(cluster: Cluster) -> None:
    follower = cluster.start(
        f"--config={cluster.file}", "audit", "follow", "--type=user.create", "--format=json"
    )
    count = 0

    def heard() -> bool:
        nonlocal count
        count += 1
        cluster.add_user(f"user-{count}")  # it may not be listening yet
        return bool(follower.stdout)

    wait_until(heard, "an event on the follower's output")
    assert json.loads(follower.stdout.splitlines()[0])["name"].startswith("user-")
    follower.signal(signal.SIGINT)
    assert follower.wait() == 130


def test_a_hand_in_the_log_is_found_while_the_cluster_runs(cluster: Cluster) -> None:
    assert cluster.command("audit", "verify").returncode == 0
    [file] = (cluster.data_dir / "auth" / "audit").glob("*.jsonl")
    text = file.read_text()
    lines = enumerate(text.splitlines(), 1)
    place = f"{file.name}:{next(number for number, line in lines if 'user.create' in line)}"
    try:
        file.write_text(text.replace('"name":"alice"', '"name":"nobody"', 1))
        told = cluster.command("audit", "verify")
        assert told.returncode == 1
        assert f"audit: {place}: changed: " in told.stdout
        offline = cluster.run("audit", "verify", f"--dir={file.parent}")
        assert f"{place}: changed: " in offline.stdout
    finally:
        file.write_text(text)
    assert cluster.command("audit", "verify").returncode == 0


def test_the_chain_and_who_follows_go_on_after_a_kill(cluster: Cluster) -> None:
    flags = ("audit", "follow", "--type=user.create", "--format=json")
    follower = cluster.start(f"--config={cluster.file}", *flags)
    cluster.add_user("before-the-kill-0")
    for n in range(1, 20):  # until it listens
        if follower.stdout:
            break
        cluster.add_user(f"before-the-kill-{n}")
    cluster.proxy.kill9()
    follower.wait_for("trying again until Ctrl-C")
    cluster.start_services()
    cluster.add_user("after-the-kill")
    follower.wait_for("after-the-kill")

    told = cluster.command("audit", "verify")
    assert (told.returncode, told.stdout) == (0, ""), told.stderr
