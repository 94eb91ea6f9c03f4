"""Resources on a real cluster: made, changed, removed by commands, and what people see of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import PASSWORD, TPORT, Cluster, start_cluster, wait_until
from tests.e2e.started_upstream import start_upstream
from tests.ports import free_port

pytestmark = pytest.mark.e2e

SLOW = 15.0  # s that such a thing may take on a busy machine, commands' own starts included


UPSTREAM: list[str] = []  # the URL of the module's application, once there is one


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with an agent that picks up what is labelled `env: dev`, and has `own` in its file."""
    with start_cluster(tmp_path_factory.mktemp("resources")) as cluster:
        upstream = start_upstream(cluster)
        agent = cluster.start_agent_of(
            f"""\
app_service:
  enabled: "yes"
  apps:
  - {{name: own, uri: '{upstream.url}'}}
  resources:
  - labels: {{env: [dev, test]}}
"""
        )
        cluster.wait_for_app("own", agent)
        UPSTREAM[:] = [upstream.url]
        yield cluster


def app_text(name: str, env: str = "dev", path: str = "") -> str:
    url = UPSTREAM[0]
    return (
        f"kind: app\nversion: v3\nmetadata:\n  name: {name}\n  labels: {{env: {env}}}\n"
        f"spec:\n  uri: {url}{path}\n"
    )


def status_of(person: Client, url: str) -> int:
    """Ask as a program does, which isn't sent to sign in."""
    return person.request("GET", url, {"Accept": "application/json"}).status


def states(cluster: Cluster) -> dict[str, str]:
    rows = json.loads(cluster.tell("apps", "ls", "--format=json"))
    return {row["name"]: row["state"] for row in rows}


def create(cluster: Cluster, text: str, *flags: str, status: int = 0) -> str:
    done = cluster.command("create", *flags, "-", input=text)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    return done.stderr


ROLE = """\
kind: role
version: v7
metadata: {name: testers}
spec:
  options: {max_session_ttl: 2h}
  allow: {app_labels: {env: test}}
"""


def test_a_role_and_a_user_of_one_file_open_what_they_say(cluster: Cluster) -> None:
    user = "kind: user\nversion: v2\nmetadata: {name: tess}\nspec: {roles: [testers]}\n"
    said = create(cluster, f"{ROLE}---\n{user}")
    assert "role 'testers' has been created" in said
    assert "user 'tess' has been created" in said
    create(cluster, app_text("for-test", "test"))
    wait_until(lambda: states(cluster).get("for-test") == "up", "for-test is up", SLOW)

    tess = cluster.client()
    reset = cluster.command("users", "reset", "tess")
    assert "tess begins anew with this link, once, until 20" in reset.stderr
    tess.sign_up(reset.stdout.strip(), PASSWORD)

    assert tess.open(cluster.app_url("for-test")).status == 200
    assert tess.open(cluster.app_url("own")).status == 403
    create(cluster, ROLE.replace("env: test", "env: prod"), "-f")
    wait_until(lambda: status_of(tess, cluster.app_url("for-test")) == 403, "closed", SLOW)
    assert cluster.command("rm", "role/testers").returncode == 2
    cluster.tell("rm", "user/tess", "role/testers")
    assert status_of(tess, cluster.app_url("for-test")) in (401, 403)


def test_an_app_is_picked_up_changed_and_dropped_within_seconds(cluster: Cluster) -> None:
    person = cluster.signed_in("olga")
    create(cluster, app_text("graphs"))
    wait_until(lambda: states(cluster).get("graphs") == "up", "graphs is up", SLOW)
    assert person.open(cluster.app_url("graphs")).status == 200

    create(cluster, app_text("graphs", "prod"), "-f")
    wait_until(lambda: "graphs" not in states(cluster), "no agent wants it", SLOW)
    create(cluster, app_text("graphs", "test"), "-f")
    wait_until(lambda: states(cluster).get("graphs") == "up", "graphs is up again", SLOW)

    cluster.tell("apps", "rm", "graphs")
    wait_until(lambda: "graphs" not in states(cluster), "graphs is gone", SLOW)
    assert states(cluster)["own"] == "up"
    assert cluster.command("apps", "rm", "graphs").returncode == 4
    cluster.tell("apps", "rm", "--if-exists", "graphs")


def test_two_agents_that_pick_up_one_application_follow_its_changes_together(
    cluster: Cluster,
) -> None:
    agent = cluster.start_agent_of(
        'app_service:\n  enabled: "yes"\n  resources:\n  - labels: {env: [dev]}\n', "second"
    )
    create(cluster, app_text("shared"))

    def rows() -> list[tuple[str, str]]:
        found = json.loads(cluster.tell("apps", "ls", "--format=json"))
        return [(row["uri"], row["state"]) for row in found if row["name"] == "shared"]

    url = UPSTREAM[0]
    wait_until(lambda: rows() == [(url, "up")] * 2, "both offer it", SLOW)
    create(cluster, app_text("shared", path="/below"), "-f")
    wait_until(lambda: rows() == [(f"{url}/below", "up")] * 2, "both offer the new one", SLOW)
    agent.stop()
    cluster.tell("rm", "app/shared")


def test_the_file_s_app_wins_over_a_namesake_which_is_shown_refused(cluster: Cluster) -> None:
    create(cluster, app_text("own", path="/elsewhere"))
    wait_until(lambda: "own (dynamic)" in states(cluster), "the namesake is shown", SLOW)

    shown = states(cluster)
    cluster.tell("rm", "app/own")

    assert shown["own"] == "up"
    assert "own file has an application of this name" in shown["own (dynamic)"]
    wait_until(lambda: "own (dynamic)" not in states(cluster), "the namesake is gone", SLOW)


def test_a_token_of_a_file_lets_an_agent_join(cluster: Cluster, tmp_path: Path) -> None:
    secret = "5f0e8c1b9d7a4b32a6c1e0f29b7d4c58"
    create(
        cluster,
        f"kind: token\nversion: v2\nmetadata: {{name: {secret}}}\n"
        "spec: {roles: [App], app_name: joined}\n",
    )
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(f"{secret}.{_pin(cluster)}")
    url = UPSTREAM[0]
    cluster.start_agent("joined", url, token=token, data_dir=tmp_path / "agent")

    shown = cluster.tell("get", f"token/{secret}")
    removed = cluster.command("rm", f"token/{secret}")
    again = cluster.command("rm", f"token/{secret}")

    assert secret not in shown
    assert "app_name: joined" in shown
    assert secret not in cluster.tell("get", "all")
    assert (removed.returncode, again.returncode) == (0, 4)
    assert secret not in removed.stderr + again.stderr


def _pin(cluster: Cluster) -> str:
    return cluster.token().read_text().strip().partition(".")[2]


def test_a_lock_keeps_a_person_out_until_it_is_lifted(cluster: Cluster) -> None:
    person = cluster.signed_in("lars")
    assert person.open(cluster.app_url("own")).status == 200

    name = cluster.tell("lock", "--user=lars", "--message=ask Kim", "--ttl=10m")
    wait_until(lambda: status_of(person, cluster.app_url("own")) == 403, "locked out", SLOW)
    page = person.open(cluster.app_url("own"))
    listed = cluster.tell("get", "locks", "--format=text")
    cluster.tell("rm", f"lock/{name}")
    wait_until(lambda: status_of(person, cluster.app_url("own")) == 200, "let in", SLOW)

    assert "ask Kim" in page.text
    assert "user lars until " in listed
    assert cluster.command("lock", "--user=nobody-of-this-name").returncode == 4
    assert cluster.command("lock").returncode == 2
    assert cluster.command("lock", "--user=lars", "--ttl=1h", "--expires=x").returncode == 2


def test_sessions_are_listed_and_ended(cluster: Cluster) -> None:
    person = cluster.signed_in("sina")
    assert person.open(cluster.app_url("own")).status == 200
    listed = json.loads(cluster.tell("sessions", "ls", "--user=sina", "--format=json"))
    assert sorted((each["kind"], each["app"]) for each in listed) == [("app", "own"), ("web", "")]
    [web] = [each["id"] for each in listed if each["kind"] == "web"]
    assert web[:12] in cluster.tell("sessions", "ls")

    cluster.tell("sessions", "rm", web[:12])

    wait_until(lambda: status_of(person, cluster.app_url("own")) == 401, "out", SLOW)
    assert json.loads(cluster.tell("sessions", "ls", "--user=sina", "--format=json")) == []
    assert cluster.command("sessions", "rm", web).returncode == 4
    cluster.tell("sessions", "rm", "--if-exists", web)


def test_of_two_who_change_the_same_the_second_is_told(cluster: Cluster, tmp_path: Path) -> None:
    create(cluster, ROLE.replace("testers", "both"))
    mine = cluster.tell("get", "role/both")
    create(cluster, mine.replace("2h0m0s", "3h0m0s"), "-f")

    said = create(cluster, mine.replace("2h0m0s", "4h0m0s"), "-f", status=6)
    again = create(cluster, ROLE.replace("testers", "both"), status=6)

    assert "role 'both' was changed meanwhile" in said
    assert "exists already" in again
    assert "max_session_ttl: 3h0m0s" in cluster.tell("get", "role/both")
    cluster.tell("rm", "role/both")


def test_an_editor_changes_a_resource_and_nothing_of_a_bad_edit_is_lost(
    cluster: Cluster, tmp_path: Path
) -> None:
    create(cluster, ROLE.replace("testers", "edited"))

    def edit(script: str) -> tuple[int, str]:
        editor = tmp_path / "editor.sh"
        editor.write_text(f"#!/bin/sh\n{script}\n")
        editor.chmod(0o700)
        env = {"EDITOR": str(editor)}
        done = cluster.run(f"--config={cluster.file}", "edit", "role/edited", env=env)
        return done.returncode, done.stderr

    assert edit("true") == (0, "tport: not changed\n")
    assert edit("sed -i s/2h0m0s/5h0m0s/ $1")[0] == 0
    assert "5h0m0s" in cluster.tell("get", "role/edited")
    status, said = edit("sed -i s/app_labels/app_lables/ $1")
    assert status == 2
    assert "unknown field; did you mean app_labels?" in said
    kept = Path(said.rpartition("is kept in ")[2].split("\n")[0])
    assert "app_lables" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    kept.unlink()
    status, said = edit("sed -i s/name:.edited/name:\\ other/ $1")
    assert (status, "leaves its kind and name" in said) == (2, True)
    Path(said.rpartition("is kept in ")[2].split("\n")[0]).unlink()
    changed = tmp_path / "meanwhile.yaml"
    changed.write_text(ROLE.replace("testers", "edited"))
    status, said = edit(
        f"{TPORT} --config={cluster.file} create -f {changed}; sed -i s/5h0m0s/9h0m0s/ $1"
    )
    assert status == 6
    assert "was changed meanwhile" in said
    kept = Path(said.rpartition("is kept in ")[2].split("\n")[0])
    assert "9h0m0s" in kept.read_text()
    kept.unlink()
    cluster.tell("rm", "role/edited")


def test_formats_agree_and_what_is_not_there_is_said(cluster: Cluster) -> None:
    as_json = json.loads(cluster.tell("get", "roles", "--format=json"))
    text = cluster.tell("get", "roles", "--format=text")

    assert {each["metadata"]["name"] for each in as_json} >= {"access", "auditor", "editor"}
    assert "Opens every application" in text
    assert cluster.command("get", "role/nobody").returncode == 4
    assert cluster.command("get", "rolls").returncode == 2
    assert cluster.command("edit", "app_server/own").returncode == 2
    assert cluster.command("rm", "role").returncode == 2
    assert cluster.command("create", "/does/not/exist.yaml").returncode == 2
    assert "PRIVATE" not in cluster.tell("get", "all")


def test_a_cluster_is_carried_elsewhere_with_its_people_agents_and_authorities(
    tmp_path: Path,
) -> None:
    """A is dumped and stopped; B begins with the dump at the same address, and goes on as A."""
    port = free_port()
    dump = tmp_path / "dump.yaml"
    with start_cluster(tmp_path / "a", port=port) as first:
        upstream = start_upstream(first)
        agent = first.start_agent("grafana", upstream.url, data_dir=tmp_path / "agent")
        first.signed_in("alice", team="graphs")
        ca = first.ca().read_text()
        create(first, ROLE)
        first.tell("lock", "--role=testers", "--message=later")
        dump.touch(0o600)
        dump.write_text(first.tell("get", "all", "--with-secrets"))
        assert '"TPX02W"' in "".join(
            path.read_text() for path in (first.data_dir / "auth" / "audit").glob("2*.jsonl")
        )
        agent.stop()
        first.proxy.stop()

        second = Cluster(tmp_path / "b", port, "")
        try:
            second.process = second.start("start", f"--config={second.file}", f"--bootstrap={dump}")
            second.tell("status", "--wait")
            agent = second.start(
                "start",
                "--roles=app",
                f"--auth-server={second.address}",
                "--app-name=grafana",
                f"--app-uri={upstream.url}",
                f"--data-dir={tmp_path / 'agent'}",
            )
            second.wait_for_app("grafana", agent)
            alice = second.client()
            alice.sign_in(alice.open(second.url), "alice", PASSWORD)

            assert second.ca().read_text() == ca
            assert alice.open(second.app_url("grafana")).status == 200
            assert "testers" in second.tell("get", "locks")
            assert "team:" in second.tell("get", "user/alice")
            second.proxy.stop()
            second.process = again = second.start(
                "start", f"--config={second.file}", f"--bootstrap={dump}"
            )
            second.tell("status", "--wait")
            again.wait_for("--bootstrap is not looked at")
        finally:
            second.end()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("boss-1", "rm user/boss-1"),
        ("boss-2", "users rm boss-2"),
        ("boss-3", "users update boss-3 --roles=access"),
        ("boss-4", "lock --user=boss-4"),
    ],
)
def test_the_last_who_administers_does_not_go_without_a_word(
    cluster: Cluster, name: str, command: str
) -> None:
    cluster.tell("users", "add", "--roles=editor", name)

    done = cluster.command(*command.split())

    assert done.returncode == 0
    assert "nobody is left who may administer in the browser" in done.stderr
