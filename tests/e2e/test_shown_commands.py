"""Every command that the documents show is run: page by page, in order, beside one cluster.

What a reader puts in is put in by rule: names and ports of this cluster for those of the documents (`_HERE`), folders of the test's
for those of the machine, and for words in capitals what `_PREPARED` makes just before. What isn't run here is listed, with why, in
`tests/shown_elsewhere.py`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from tests.e2e.client import Client
from tests.e2e.harness import TPORT, Background, Cluster, GaveUp, need, start_cluster
from tests.e2e.site import Answer, serve
from tests.ports import free_port
from tests.shown import ROOT, Shown, blocks, parsed, simple_commands
from tests.shown_elsewhere import names_of, runs_elsewhere, typed

pytestmark = pytest.mark.e2e

PLACEHOLDERS = "NAME|USER|APP|TOKEN|ID|KIND|FILE|DIR|OLD|PROXY|URI|CODE"
A_PERSON = "tport users add --if-not-exists --roles=access alice; NAME=alice OLD=alice USER=alice"

# What a command needs that the steps before it on its page don't make: pattern → lines for a shell.
_PREPARED = (
    (r"users add", "tport rm --if-exists user/you user/alice user/reader; NAME=alice"),
    (r"users (update|reset|unlock|rm)|lock --user", A_PERSON),
    (r"why USER APP|selftest APP", f"{A_PERSON}; APP=grafana"),
    (r"tokens rm TOKEN", "TOKEN=$(tport tokens add --format=text)"),
    (r"sessions rm ID", "ID=$(tport sessions ls --user=visitor --format=json | first id)"),
    (r"device-tokens rm ID", "ID=$(tport device-tokens ls --user=visitor --format=json | first id)"),
    (r"apps check NAME", "NAME=grafana FILE=agent.yaml"),
    (r"apps rm NAME", "tport create -f app.yaml; NAME=graphs"),
    (r"rm lock/NAME", "NAME=$(tport lock --user=visitor --ttl=1m)"),
    (r"rm role/dev lock/d5b0", "tport create -f roles.yaml; tport create -f lock.yaml"),
    (r"KIND", "tport create -f roles.yaml; KIND=role NAME=dev"),
    (r"(get|edit) KIND|edit role/dev", "tport create -f roles.yaml"),
    (r"create( FILE)?$", "tport rm --if-exists role/dev; FILE=roles.yaml; exec < roles.yaml"),
    (r"create -f - ", "tport create -f google.yaml; trap 'tport rm cap' EXIT"),
    (r"create google", "tport rm --if-exists oidc/google"),
    (r"rm cap|edit cluster_auth", "tport create -f cap.yaml"),
    (r"--config FILE (status|COMMAND)|--check( FILE)?$", "FILE=tport.yaml"),
    (r"--config FILE status", "FILE=$TPORT_CONFIG_FILE"),
    (r"--data-dir DIR status", "DIR=$DATA"),
    (r"--test=|--check /etc|--config=/etc", "mkdir -p etc; cp -n tport.yaml etc/tport.yaml || true; FILE=tport.yaml"),
    (r"backup FILE|diag FILE", "FILE=$(mktemp -u)"),
    (r"backup /var", "mkdir -p var/backups; rm -f var/backups/*"),
    (r"^tport restore FILE", "FILE=$(mktemp -u); tport backup $FILE; export TPORT_CONFIG_FILE= TPORT_DATA_DIR=$(mktemp -d)"),
    (r"DIR restore FILE", "FILE=$(mktemp -u); tport backup $FILE; DIR=$(mktemp -d)"),
    (r"restore tport-", "rm -f tport-2026-11-25.tar.gz; tport backup tport-2026-11-25.tar.gz"),
    (r"auth.old$", "mkdir -p var/lib/tport/auth/audit var/lib/tport/auth/requests"),
    (r"auth.newer$", "rm -rf var/lib/tport/auth* && mkdir -p var/lib/tport/auth/backups"
     " && tport backup var/lib/tport/auth/backups/before-version-time.tar.gz"),
    (r"auth.old/audit", "rmdir var/lib/tport/auth/audit var/lib/tport/auth/requests || true"),
    (r"install systemd --output", "mkdir -p etc/systemd/system; rm -f etc/systemd/system/*"),
    (r"tee /etc", "mkdir -p etc"),
    (r"chmod.*letsencrypt", "mkdir -p etc/letsencrypt/live etc/letsencrypt/archive"),
    (r"install -d", "mkdir -p srv"),
    (r"> /tmp|/tmp/token", "[ -s tmp/token ] || tport tokens add --format=text > tmp/token"),
    (r"diag$", "rm -f tport-diag-*"),
)  # fmt: skip

# What runs until it is stopped: pattern → what it says when it is well, and lines as above.
_UNTIL_STOPPED = (
    (r"^tport start( --debug)?$", "tport: ready", "export TPORT_CONFIG_FILE=tport.yaml"),
    (r"^tport start --config", "tport: ready", ""),
    (
        r"^tport start --roles=app",
        "tport: ready",
        "export TPORT_CONFIG_FILE= TPORT_DATA_DIR=agent-2",
    ),
    (r"^tport join", "code", "PROXY=$ADDRESS URI=$APPLICATION"),
    (r"^tport audit follow", "lock", "(sleep 2; tport lock --user=visitor --ttl=1m) &"),
)

# Those whose status is another one when they do what they should: pattern → statuses.
_STATUS = (
    (r"^tport lock$", (2,)),  # named in sentences; it asks whom
    (r"configure --check", (0, 1)),  # 1: something must be mended, where no name can be looked up
)

RESOURCES = {
    "app.yaml": "{kind: app, version: v3, metadata: {name: graphs}, spec: {uri: 'http://localhost:9'}}",
    "lock.yaml": "{kind: lock, version: v2, metadata: {name: d5b0}, spec: {target: {user: visitor}}}",
    "cap.yaml": "{kind: cap, version: v2, spec: {web_idle_timeout: 8h}}",
}


def commands() -> dict[str, list[Shown]]:
    """Return what is run, by page; what several pages say within sentences is run for the first."""
    found: dict[str, list[Shown]] = {}
    done: set[str] = set()
    for each in typed():
        text, _ = names_of(each)
        if not each.inline or _is_whole(text):
            if not (each.inline and text in done) and not runs_elsewhere(each):
                found.setdefault(each.page, []).append(replace(each, text=text))
            done.add(text)
    return found


def _is_whole(text: str) -> bool:
    """Whether what stands in a sentence has all its arguments."""
    try:
        parsed(simple_commands(text)[0][1:])
    except typer.Exit:
        return True  # --help
    except typer.TyperException:
        return False
    return True


COMMANDS = commands()


class World:
    """A cluster with an application, people and files, and a shell in a folder of its own."""

    def __init__(self, cluster: Cluster, application: str) -> None:
        self.cluster = cluster
        self.folder = cluster.folder / "world"
        self.folder.joinpath("tmp").mkdir(parents=True)
        device_token(cluster.signed_in("visitor"), cluster)
        self._running: list[Background] = []
        self._here = (
            ("tport.example.com:3080", cluster.address),
            ("https://grafana.example.com", cluster.app_url("grafana", "")),
            ("http://localhost:3000", application),
            ("http://127.0.0.1:3000", f"http://127.0.0.1:{cluster.diag_port}"),
            ("Authorization: …", "Authorization: x"),
        )
        self._env = {
            **cluster.env,
            "PATH": f"{self._programs()}:{Path(TPORT).parent}:{cluster.env['PATH']}",
            "PYTHONPATH": f"{self._plugin()}:{cluster.env['PYTHONPATH']}",
            "TPORT_CONFIG_FILE": str(cluster.file),
            "CURL_CA_BUNDLE": str(cluster.ca()),
            "TMPDIR": str(self.folder / "tmp"),
            "EDITOR": "true",
            "USER": "reader",
            "DATA": str(cluster.data_dir),
            "ADDRESS": cluster.address,
            "APPLICATION": application,
        }
        self._files(application)

    def _programs(self) -> Path:
        """Programs that stand in for others: root's rights, a cipher, and curl that fails where it is refused."""
        bin = self.folder / "bin"
        bin.mkdir()
        curl = need_path("curl")
        for name, line in (
            ("sudo", 'exec "$@"'),
            ("age", "cat"),
            ("curl", f'exec {curl} --fail-with-body -sS "$@"'),
            (
                "first",
                """exec python3 -c 'import json, sys; print(json.load(sys.stdin)[0][sys.argv[1]])' "$1" """,
            ),
        ):
            bin.joinpath(name).write_text(f"#!/bin/sh\n{line}\n")
            bin.joinpath(name).chmod(0o700)
        return bin

    def _plugin(self) -> Path:
        """examples/plugin, as pip would install it."""
        folder = self.folder / "plugin"
        info = folder / "tport_hello-1.0.dist-info"
        info.mkdir(parents=True)
        shutil.copy(ROOT / "examples" / "plugin" / "tport_hello.py", folder)
        info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: x\nVersion: 1.0\n")
        info.joinpath("entry_points.txt").write_text("[tport.commands]\nhello = tport_hello:app\n")
        return folder

    def _files(self, application: str) -> None:
        """What the pages have files for: those that they show, and the smallest of the others."""
        shown = {
            "roles.yaml": yaml_of("resources.md", "kind: role"),
            "google.yaml": yaml_of("sso.md", "kind: oidc"),
            **RESOURCES,
            "agent.yaml": f"tport: {{proxy_server: {self.cluster.address}}}\napp_service:\n  enabled: yes\n  apps: [{{name: grafana, uri: '{application}'}}]\n"
            "auth_service: {enabled: no}\nproxy_service: {enabled: no}\n",
        }
        for name, text in shown.items():
            self.folder.joinpath(name).write_text(self.filled(text))
        self.folder.joinpath("etc", "tport").mkdir(parents=True)
        secret = self.folder / "etc" / "tport" / "google.secret"
        secret.touch(0o600)
        secret.write_text("s\n")
        self.begin_page()

    def end_page(self) -> None:
        """Stop what a page's lines have started."""
        while self._running:
            self._running.pop().stop()
        self._env["TPORT_CONFIG_FILE"] = str(self.cluster.file)

    def begin_page(self) -> None:
        """Write the files that a page's own lines may have written over."""
        for name in ("tport", "new"):
            port = free_port()
            self.folder.joinpath(f"{name}.yaml").write_text(
                f"tport: {{data_dir: {self.folder / f'data-{port}'}}}\n"
                "auth_service: {enabled: yes, listen_addr: 127.0.0.1:0, cluster_name: tport.localhost}\n"
                f"proxy_service: {{enabled: yes, web_listen_addr: 127.0.0.1:{port}}}\n"
            )

    def filled(self, text: str) -> str:
        """Put in what a reader would."""
        for theirs, ours in self._here:
            text = text.replace(theirs, ours)
        text = re.sub(r"(?<!\w)/(etc|tmp|var|srv)/", rf"{self.folder}/\1/", text)
        return re.sub(rf"(?<![$\w])({PLACEHOLDERS})\b", r"$\1", text)

    def run(self, each: Shown) -> str:
        """Run a command; return what went wrong, "" for nothing."""
        lasting = [rule for rule in _UNTIL_STOPPED if re.search(rule[0], each.text)]
        prepared = [lines for pattern, lines in _PREPARED if re.search(pattern, each.text)]
        for _, sign, lines in lasting:
            return self._run_until(each, sign, [*prepared, lines])
        if "$TOKEN" in each.text and "TOKEN" not in self._env:
            self._env["TOKEN"] = device_token(self.cluster.signed_in("caller"), self.cluster)
        script = "\n".join(["set -e -o pipefail", *prepared, self.filled(each.text)])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        if name := re.match(r"export (\w+)=(\S+)$", each.text):
            self._env[name[1]] = str(self.folder / name[2])
        well = next((status for pattern, status in _STATUS if re.search(pattern, each.text)), (0,))
        told = f"{each}\n{done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return "" if done.returncode in well else told

    def _run_until(self, each: Shown, sign: str, prepared: list[str]) -> str:
        script = "\n".join(["set -e", *prepared, f"exec {self.filled(each.text)}"])
        process = self.cluster.spawn(["bash", "-c", script], env=self._env, cwd=self.folder)
        self._running.append(process)
        try:
            process.wait_for(sign)
        except GaveUp as problem:
            return f"{each}\n{problem}"
        return ""


def yaml_of(page: str, begin: str) -> str:
    """Return the first YAML of a page that begins so."""
    text = ROOT.joinpath("docs", page).read_text()
    return next(
        block.text
        for block in blocks(text, page)
        if block.language == "yaml" and block.text.startswith(begin)
    )


def need_path(program: str) -> str:
    found = shutil.which(program)
    need(program, found, "make test-deps")
    return str(found)


def device_token(client: Client, cluster: Cluster) -> str:
    """Make a token for `grafana` by the page; return it."""
    place = "/web/account/tokens/add"
    page = client.open(f"{cluster.url}{place}")
    made = client.submit(page, {"name": "t", "app": "grafana", "life": "90"}, at=place)
    [secret] = re.findall(r"tport_[A-Za-z0-9_-]{43}(?=</code></pre>)", made.text)
    return str(secret)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("shown")
    with (
        serve(lambda _: Answer("hello")) as application,
        start_cluster(folder, diagnostics=True) as cluster,
    ):
        cluster.start_agent("grafana", application.url)
        yield World(cluster, application.url)


@pytest.mark.parametrize("page", COMMANDS)
def test_the_commands_of_a_page_run_one_after_the_other(world: World, page: str) -> None:
    world.begin_page()
    try:
        wrong = [told for each in COMMANDS[page] if (told := world.run(each))]
    finally:
        world.end_page()

    assert not wrong, "\n\n".join(wrong)
