"""What an operator relies on: whose the files are, who may make the first user, what failures tell."""

from __future__ import annotations

import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trio

from tests.browser import Browser
from tests.stack import DOMAIN, PASSWORD, Answer, Stack, open_stack
from tport.engine.types.app import App

NOBODY = 65534  # a user without files
GROUP_AND_WORLD = stat.S_IRWXG | stat.S_IRWXO
# Paths, programs and addresses of ours, and what only a bug prints.
TELLING = re.compile(
    rb"/home|/var|/tmp|/usr/|site-packages|\.py\b|Traceback|sqlite|0x[0-9a-f]{6}|\btrio\b|\bh11\b"
    rb"|127\.0\.0\.1:\d+|(?<![\w.])localhost:\d+",
    re.IGNORECASE,
)


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    other = App(name="gone", uri="http://127.0.0.1:1")
    async with open_stack(apps=(other,), drain=False) as opened:
        yield opened


def _open_to_others(folder: Path) -> list[str]:
    return [
        f"{path.relative_to(folder)}: {stat.filemode(path.lstat().st_mode)}"
        for path in [folder, *folder.rglob("*")]
        if path.lstat().st_mode & GROUP_AND_WORLD or path.is_symlink()
    ]


async def test_ops_04_nothing_on_disk_is_for_others_whatever_was_done(stack: Stack) -> None:
    """OPS-04: after sign-ins, joins, requests and what is written down of them."""
    alice = await stack.user("alice")
    await alice.get("echo", "/")
    await stack.admin.create_token(roles=("app",), ttl=60, app_name="", app_uri="", max_uses=1)
    await stack.requests(user="alice")
    folder = stack.running.config.data_dir

    assert len(list(folder.rglob("*"))) > 5
    assert await trio.to_thread.run_sync(_open_to_others, folder) == []


async def test_ops_07_a_new_cluster_has_nobody_who_could_sign_in(stack: Stack) -> None:
    """OPS-07: no name and no password that is everybody's; the only way in is an invite."""
    assert await stack.admin.list_users() == ()
    browser = Browser(stack)
    url = f"{stack.proxy_url}/web/login"
    for name, password in (
        *(("admin", "admin"), ("root", "root"), ("admin", "password"), ("tport", "tport")),
        *(("administrator", PASSWORD), ("admin", ""), ("", "")),
    ):
        answer = await browser.submit(url, {"username": name, "password": password})
        assert answer.status in (400, 403, 422, 429), (name, answer.status)
    for token in ("x", "0" * 64, "inv_" + "A" * 43):
        page = await browser.ask(f"{stack.proxy_url}/web/invite/{token}")
        assert page.status in (403, 404)

    assert await stack.admin.list_users() == ()


async def test_ops_07_who_is_not_tports_user_gets_no_administrator(stack: Stack) -> None:
    """OPS-07: what commands of this machine need can be read by tport's own user alone."""
    folder = stack.running.config.data_dir
    secrets = [path for path in folder.rglob("*") if path.is_file()]
    if hasattr(os, "getuid") and os.getuid() == 0:  # then it can be tried as somebody else
        tried = await trio.run_process(
            ["cat", *map(str, secrets)],
            check=False,
            capture_stdout=True,
            capture_stderr=True,
            user=NOBODY,
        )
        assert tried.stdout == b""
        assert tried.stderr.count(b"Permission denied") == len(secrets)

    assert "tport.db" in {path.name for path in secrets}
    assert [path for path in secrets if path.stat().st_mode & GROUP_AND_WORLD] == []


def test_ops_03_a_crash_leaves_no_core_behind_nor_does_one_of_a_process_that_it_starts() -> None:
    """OPS-03: neither as a file nor to a program of the system's."""
    code = (
        "import resource, subprocess, sys\n"
        "from tport.engine.signals import forbid_core_dumps\n"
        "forbid_core_dumps()\n"
        "own = resource.getrlimit(resource.RLIMIT_CORE)\n"
        "ask = 'import resource; print(resource.getrlimit(resource.RLIMIT_CORE))'\n"
        "print(own, subprocess.check_output([sys.executable, '-c', ask], text=True), end='')\n"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True)

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 1 if most == resource.RLIM_INFINITY else min(1, most)
    assert said == f"{(limit, limit)} {(limit, limit)}\n"


async def _failures_of_strangers(stack: Stack) -> dict[str, Answer]:
    echo, raw = stack.host("echo"), b"GET / HTTP/1.1\r\nHost: %b\r\n" % DOMAIN.encode()
    wrong = urlencode({"username": "alice", "password": "no"}).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return {
        "400": await stack.raw(DOMAIN, raw + b"Bad Name: x\r\n\r\n"),
        "400, a body": await stack.raw(DOMAIN, raw + b"Content-Length: x\r\n\r\n"),
        "401": await stack.request(echo, "/"),
        "403": await stack.request(DOMAIN, "/web/login", form, method="POST", body=wrong),
        "404": await stack.request(DOMAIN, "/nowhere"),
        "404, JSON": await stack.request(DOMAIN, "/api/v1/nowhere"),
        "405": await stack.request(DOMAIN, "/web/login", method="DELETE"),
        "413": await stack.raw(
            DOMAIN,
            b"POST /web/login HTTP/1.1\r\nHost: %b\r\n"
            b"Content-Length: 99999999\r\n\r\n" % DOMAIN.encode(),
        ),
        "421": await stack.request("x.test", "/", server_name=DOMAIN),
        "431": await stack.raw(DOMAIN, raw + b"X: " + bytes(70_000)),
        "501": await stack.raw(DOMAIN, raw + b"Transfer-Encoding: gzip\r\n\r\n"),
        "505": await stack.raw(DOMAIN, raw.replace(b"1.1", b"1.9") + b"\r\n"),
        "an odd code": await stack.request(echo, "/.tport/auth?code=%00&state=%ff"),
        "an odd launch": await stack.request(DOMAIN, "/web/launch?state=%00"),
        "an odd invite": await stack.request(DOMAIN, "/web/invite/%2e%2e%2f"),
        "static files": await stack.request(DOMAIN, "/static/..%2f..%2fapp.py"),
    }


async def test_ops_08_what_strangers_are_told_names_nothing_of_ours(stack: Stack) -> None:
    """OPS-08: no file, no program, no address within; in no header either."""
    answers = await _failures_of_strangers(stack)

    assert {name: each.status for name, each in answers.items() if each.status < 300} == {}
    found = {
        name: TELLING.findall(each.body + repr(each.headers).encode())
        for name, each in answers.items()
    }
    assert {name: words for name, words in found.items() if words} == {}


async def test_ops_08_a_bug_is_told_by_an_id_alone(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OPS-08: the log has the rest, under that id or at that time."""
    alice = await stack.user("alice")
    await alice.open("echo")

    def bug(*_: object, **__: object) -> None:
        raise RuntimeError("/home/secret/file.py: sqlite3 at 127.0.0.1:3025")

    monkeypatch.setattr("tport.engine.proxy.apps.Apps._head", bug)
    answer = await alice.get("echo")

    assert answer.status == 500
    assert TELLING.findall(answer.body + repr(answer.headers).encode()) == []
    assert b"secret" not in answer.body
    assert "/home/secret" in caplog.text


async def test_ops_08_only_who_may_open_an_application_is_told_where_it_is(stack: Stack) -> None:
    """OPS-08: its address is in a failure's words, since they are to mend it; nobody else gets those."""
    alice = await stack.user("alice")
    mallory = await stack.outsider("mallory")

    told = await alice.get("gone")
    answers = [
        await stack.request(
            stack.host("gone"), "/", {"Cookie": f"{stack.app_cookie}={mallory.web}"}
        ),
        await stack.request(stack.host("gone"), "/", {"Accept": "text/html"}),
    ]

    assert told.status == 502
    assert b"127.0.0.1:1" in told.body
    found = [TELLING.findall(each.body + repr(each.headers).encode()) for each in answers]
    assert found == [[], []]


async def test_ops_06_what_weakens_an_application_is_named_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """OPS-06: each by its name, so that nobody runs it so without having been told."""
    caplog.set_level("WARNING")
    unverified = App(name="unverified", uri="https://127.0.0.1:1", insecure_skip_verify=True)
    clouds = App(name="clouds", uri="http://127.0.0.1:1", allow_metadata=True)
    async with open_stack(apps=(unverified, clouds), drain=False):
        pass

    assert "application unverified: its certificate is not verified" in caplog.text
    assert "application clouds: it may be where clouds keep credentials" in caplog.text
    assert "application echo" not in caplog.text
