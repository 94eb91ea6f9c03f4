"""Device tokens with the programs that people use them with: curl, git, and Chromium to make one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which

import pytest
from playwright.sync_api import BrowserContext

from tests.e2e.browser import Watch
from tests.e2e.client import Client
from tests.e2e.harness import Cluster, need, wait_until
from tests.e2e.site import Answer, Request, Site, serve
from tests.figures import BUSY

pytestmark = pytest.mark.e2e

SECONDS = 5 * BUSY  # in which a revoked token opens nothing any more


def show(request: Request) -> Answer:
    headers = {name.lower(): value for name, value in request.headers.items()}
    body = {"method": request.method, "path": request.path, "headers": headers}
    return Answer(json.dumps(body), kind="application/json")


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    """An application that answers with what it saw."""
    with serve(show) as site:
        cluster.start_agent("api", site.url)
        yield site


def make(client: Client, cluster: Cluster, app: str, name: str) -> str:
    """Make a token by the page; return it."""
    page = client.open(f"{cluster.url}/web/account/tokens/add")
    fields = {"name": name, "app": app, "life": "90"}
    made = client.submit(page, fields, at="/web/account/tokens/add")
    found: list[str] = re.findall(r"tport_[A-Za-z0-9_-]{43}(?=</code></pre>)", made.text)
    [secret] = found
    return secret


def run(
    cluster: Cluster, argv: Sequence[str], *, input: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env={**cluster.env, **(env or {})},
        input=input,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def curl(cluster: Cluster, url: str, *args: str, input: str = "") -> tuple[int, str]:
    """Ask as people do; return the status and the body."""
    need("curl", which("curl"), "apt-get install curl")
    done = run(
        cluster,
        ["curl", "-sS", "--cacert", str(cluster.ca()), "-w", "\n%{http_code}", *args, url],
        input=input,
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_curl_gets_in_by_a_header_and_by_a_password(cluster: Cluster, site: Site) -> None:
    secret = make(cluster.signed_in("carol"), cluster, "api", "curl")
    url = cluster.app_url("api", "/health?deep=1")
    netrc = cluster.folder / "netrc"
    netrc.write_text(f"machine api.tport.localhost login carol password {secret}\n")
    header = f"Authorization: Bearer {secret}"
    ways: dict[str, tuple[tuple[str, ...], str]] = {
        "a header": (("-H", header), ""),
        "a header by stdin": (("-H", "@-"), header),
        "a user name and password": (("-u", f"carol:{secret}"), ""),
        "no user name": (("-u", f":{secret}"), ""),
        "a password when it is asked for": (("--anyauth", "-u", f"carol:{secret}"), ""),
        "~/.netrc": (("--netrc-file", str(netrc)), ""),
        "ours beside the application's": (
            ("-H", f"Tport-{header}", "-H", "Authorization: Bearer theirs"),
            "",
        ),
    }
    for name, (args, stdin) in ways.items():
        status, body = curl(cluster, url, *args, input=stdin)
        assert (name, status) == (name, 200)
        seen = json.loads(body)
        assert seen["path"] == "/health"
        theirs = "Bearer theirs" if name == "ours beside the application's" else None
        assert seen["headers"].get("authorization") == theirs
        assert "tport-authorization" not in seen["headers"]
        assert "teleport-jwt-assertion" in seen["headers"]
        assert secret not in body


def test_a_revoked_token_opens_nothing_within_seconds(cluster: Cluster, site: Site) -> None:
    secret = make(cluster.signed_in("dave"), cluster, "api", "dave's script")
    url, header = cluster.app_url("api"), ("-H", f"Authorization: Bearer {secret}")
    assert curl(cluster, url, *header)[0] == 200
    listed = json.loads(cluster.tell("device-tokens", "ls", "--user=dave", "--format=json"))
    [token] = listed
    assert (token["name"], token["app"]) == ("dave's script", "api")
    assert secret not in json.dumps(listed)

    done = cluster.command("device-tokens", "rm", token["id"][:12])
    took = wait_until(lambda: curl(cluster, url, *header)[0] == 401, "401", SECONDS)

    assert took < SECONDS
    assert done.returncode == 0
    assert "dave's device token" in done.stderr
    assert json.loads(cluster.tell("device-tokens", "ls", "--user=dave", "--format=json")) == []
    assert cluster.command("device-tokens", "rm", token["id"]).returncode == 4
    assert cluster.command("device-tokens", "rm", token["id"], "--if-exists").returncode == 0
    status, body = curl(cluster, url, *header)
    assert (status, json.loads(body)["reason"]) == (401, "device-token")


def test_the_last_use_is_seen_soon(cluster: Cluster, site: Site) -> None:
    secret = make(cluster.signed_in("erin"), cluster, "api", "erin's")
    before = time.time()
    assert curl(cluster, cluster.app_url("api"), "-u", f"x:{secret}")[0] == 200

    def seen() -> str:
        [token] = json.loads(cluster.tell("device-tokens", "ls", "--user=erin", "--format=json"))
        return str(token["last_seen"] or "")

    assert wait_until(seen, "when it was last seen", 10) < 10
    assert seen()[:10] == time.strftime("%Y-%m-%d", time.gmtime(before))


def test_git_clones_and_asks_for_a_password_only_where_there_is_none(
    cluster: Cluster, tmp_path: Path
) -> None:
    """As git does it: first without, then, since it is asked, with what a credential helper gives."""
    need("git", which("git"), "apt-get install git")
    with _repository(cluster, tmp_path) as folder:
        secret = make(cluster.signed_in("gina"), cluster, "git", "laptop")
        url = cluster.app_url("git", "/project.git")
        helper = tmp_path / "helper"
        helper.write_text(f"#!/bin/sh\necho username=gina\necho password={secret}\n")
        helper.chmod(0o700)
        git = ["git", "-c", f"http.sslCAInfo={cluster.ca()}", "-c", "credential.helper="]
        quiet = {"GIT_TERMINAL_PROMPT": "0"}

        without = run(cluster, [*git, "clone", url, str(folder / "none")], env=quiet)
        cloned = run(
            cluster,
            [*git, "-c", f"credential.helper={helper}", "clone", url, str(folder / "clone")],
            env=quiet,
        )

    assert without.returncode != 0
    assert "could not read Username" in without.stderr, "git knows that it is to ask"
    assert cloned.returncode == 0, cloned.stderr
    assert (folder / "clone" / "README").read_text() == "walrus\n"


@contextmanager
def _repository(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """Serve a repository as the application `git`."""
    work, bare = tmp_path / "work", tmp_path / "served" / "project.git"
    identity = ("-c", "user.name=Walrus", "-c", "user.email=walrus@example.com")
    work.mkdir()
    (work / "README").write_text("walrus\n")
    for argv in (
        ["git", "-C", str(work), "init", "-q", "-b", "main"],
        ["git", "-C", str(work), "add", "README"],
        ["git", "-C", str(work), *identity, "commit", "-q", "-m", "Begin"],
        ["git", "clone", "-q", "--bare", str(work), str(bare)],
        ["git", "-C", str(bare), "update-server-info"],
    ):
        done = run(cluster, argv)
        assert done.returncode == 0, done.stderr
    handler = partial(SimpleHTTPRequestHandler, directory=str(bare.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        cluster.start_agent("git", f"http://127.0.0.1:{server.server_port}")
        yield tmp_path
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_a_person_makes_tries_and_revokes_a_token_in_the_browser(
    cluster: Cluster, site: Site, person: tuple[BrowserContext, Watch]
) -> None:
    """The command on the page is pasted into a shell as it is, told only which authority to trust."""
    context, watch = person
    page = context.new_page()
    page.goto(cluster.url)
    page.locator("details.me summary").click()
    page.get_by_role("link", name="Device tokens").click()
    page.get_by_role("link", name="Make a token").click()
    page.get_by_label("Which program it is for").fill("phone")
    page.get_by_label("The application it opens").select_option("api")
    page.get_by_role("button", name="Make the token").click()
    command = page.locator("#command").inner_text()

    trusting = {"CURL_CA_BUNDLE": str(cluster.ca()), "PATH": os.environ["PATH"]}
    done = run(cluster, ["sh", "-c", command], env=trusting)
    assert json.loads(done.stdout)["path"] == "/", done.stderr
    page.get_by_role("link", name="All tokens").click()
    page.get_by_role("link", name="Revoke phone").click()
    page.get_by_role("button", name="Revoke the token").click()
    page.get_by_text("“phone” is revoked").wait_for()

    def is_refused() -> bool:
        return "device-token" in run(cluster, ["sh", "-c", command], env=trusting).stdout

    assert wait_until(is_refused, "the command to be refused", SECONDS) < SECONDS
    assert watch.complaints == watch.failed == []
