"""A secret is found wherever it may not be, however it is written; so that finding none says something."""

from __future__ import annotations

import base64
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests.canary import (
    PASSWORD,
    LogWatch,
    SecretLeakedError,
    found_in,
    found_in_files,
    found_in_processes,
)
from tests.e2e.harness import MARKED, Tport, wait_until
from tests.marked.sitecustomize import MARK
from tests.stack import open_stack
from tport.engine.access.totp import new_totp_secret
from tport.engine.auth.cluster import new_secret

SECRETS: dict[str, Callable[[], str]] = {
    "a cookie, code or link": new_secret,
    "a join token": lambda: secrets.token_hex(16),
    "an authenticator app's key": lambda: base64.b32encode(new_totp_secret()).decode(),
    "a recovery code": lambda: base64.b32encode(secrets.token_bytes(10)).decode().lower(),
    "what seals": lambda: base64.b64encode(os.urandom(32)).decode(),
    "bytes": lambda: repr(secrets.token_bytes(32)),
    "a password": lambda: PASSWORD,
}
WAYS: dict[str, Callable[[str], str]] = {
    "plain": lambda secret: secret,
    "in a URL": lambda secret: f"GET /?code={quote(secret)}&x=1",
    "in a form": lambda secret: f"password={quote_plus(secret)}",
    "in Basic": lambda secret: base64.b64encode(f"x:{secret}".encode()).decode(),
    "in Basic, a name longer": lambda secret: base64.b64encode(f"al:{secret}".encode()).decode(),
    "in Basic, another": lambda secret: base64.urlsafe_b64encode(f"bob:{secret}".encode()).decode(),
    "in JSON": lambda secret: f'{{"a": 1, "b": "{secret}"}}',
}


# What people type, and dumps, are looked for as they are: nothing puts them into an address or a header.
AS_IT_IS = ("a recovery code", "bytes")


@pytest.mark.parametrize(
    ("secret", "way"),
    [
        (secret, way)
        for secret in SECRETS
        for way in WAYS
        if way == "plain" or secret not in AS_IT_IS
    ],
)
def test_a_secret_is_known_however_it_is_written(secret: str, way: str) -> None:
    """OPS-03."""
    made = SECRETS[secret]()

    found = list(found_in(f"nothing\n{WAYS[way](made)}\nnothing", "here"))

    assert [(each.where, each.line) for each in found] == [("here", 2)], made


def test_what_is_public_is_not_taken_for_a_secret() -> None:
    """OPS-03: ids of sessions, fingerprints, ids of requests, names."""
    public = [
        secrets.token_hex(8),
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c1",
        "$argon2id$v=19$m=19456,t=2,p=1$" + base64.b64encode(os.urandom(16)).decode(),
        "alice, role access, eyJ is how a token begins",
        "-----BEGIN CERTIFICATE-----",
    ]

    assert list(found_in("\n".join(public), "here")) == []


def test_secrets_with_a_mark_are_still_random() -> None:
    made = {new_secret() for _ in range(1000)} | {secrets.token_hex(16) for _ in range(1000)}

    assert len(made) == 2000


def test_a_file_with_a_secret_is_named_with_its_line_and_keepers_of_secrets_are_not(
    tmp_path: Path,
) -> None:
    """OPS-03."""
    for name in ("admin.pem", "tport.db", "tport.db-wal", "audit.jsonl"):
        tmp_path.joinpath(name).write_text(f"{{}}\n{new_secret()}\n")

    [found] = found_in_files(tmp_path)

    assert (found.where, found.line) == (str(tmp_path / "audit.jsonl"), 2)


@pytest.fixture
def logged() -> Iterator[LogWatch]:
    watch = LogWatch()
    logger = logging.getLogger("elsewhere")
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    yield watch
    logger.removeHandler(watch)


def test_a_record_with_a_secret_is_named_by_the_line_that_logged_it(logged: LogWatch) -> None:
    """OPS-03: in its arguments, and in a traceback."""
    logger = logging.getLogger("elsewhere.below")
    secret = new_secret()

    logger.debug("signed in as %s", "alice")
    logger.debug("signed in by %s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        logger.exception("a bug")

    found = logged.take()
    assert [Path(each.where).name for each in found] == [Path(__file__).name] * 2
    assert found[0].line < found[1].line
    assert logged.take() == []


def test_whatever_tport_logs_in_a_test_is_looked_at(no_secret_is_logged: LogWatch) -> None:
    """OPS-03: else every other test would pass for nothing."""
    logging.getLogger("tport.engine.anything").debug("here: %s", new_secret())

    [found] = no_secret_is_logged.take()
    assert found.kind == "secret"


async def test_a_secret_on_an_error_page_in_a_file_or_at_an_application_fails_its_test() -> None:
    """OPS-03: each of the three, by a cluster that did nothing wrong."""

    async def leak() -> None:
        async with open_stack(drain=False) as stack:
            alice = await stack.user("alice")
            stack.running.config.data_dir.joinpath("a.log").write_text(alice.web)
            await stack.request(stack.host("echo"), "/x", {"Accept": "*/*"})
            asked, page = stack.refusals[-1]
            page.body += alice.web.encode()
            await alice.get("echo", f"/?secret={alice.web}")
            asked_for.append(f"the answer {page.status} to {asked}")

    asked_for: list[str] = []
    with pytest.raises(SecretLeakedError) as failed:
        await leak()

    wheres = [each.where for each in failed.value.found]
    assert any(where.endswith("a.log") for where in wheres)
    assert asked_for[0] in wheres
    assert "what the application was sent" in wheres


def test_a_command_line_and_an_environment_with_a_secret_are_found(tmp_path: Path) -> None:
    """OPS-03: of a process that a test started, and of what that one started."""
    tport, secret = Tport(tmp_path), new_secret()
    script = tmp_path / "script.py"
    script.write_text(
        "import subprocess, sys\n"
        "print('on', flush=True)\n"
        f"subprocess.run([sys.executable, '-c', 'import signal; signal.pause()', {secret!r}])\n"
    )
    process = tport.spawn([sys.executable, str(script)], env={"TOKEN": secret})
    process.wait_for("on")

    wait_until(lambda: _both(tport), "both are found")
    with pytest.raises(SecretLeakedError) as failed:
        tport.end()

    wheres = {each.where.partition(" ")[0] for each in failed.value.found}
    assert wheres == {"cmdline", "environ"} or sys.platform != "linux"


def _both(tport: Tport) -> bool:
    found = list(found_in_processes(tport.pids()))
    return {each.where.partition(" ")[0] for each in found} == {"cmdline", "environ"}


def test_what_a_process_says_and_logs_is_looked_at_in_the_end(tmp_path: Path) -> None:
    """OPS-03."""
    tport, secret = Tport(tmp_path), new_secret()
    script = f"import sys; print('data', {secret!r}); print('oh', {secret!r}, file=sys.stderr)"
    file = tmp_path / "script.py"
    file.write_text(script)
    tport.spawn([sys.executable, str(file)]).wait()
    log = tmp_path / "data" / "auth" / "audit" / "today.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(f"{secret}\n")

    with pytest.raises(SecretLeakedError) as failed:
        tport.end()

    assert {Path(each.where).name for each in failed.value.found} == {"stderr", "today.jsonl"}


def test_a_process_that_tests_start_makes_marked_secrets_too(tmp_path: Path) -> None:
    """OPS-03: without a word of it in the program, whose start is measured."""
    script = "import secrets, os; print(secrets.token_urlsafe(32), secrets.token_hex(16), os.urandom(20).hex())"

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": MARKED},
        capture_output=True,
        text=True,
        check=True,
    )

    cookie, token, key = done.stdout.split()
    assert base64.urlsafe_b64encode(MARK).decode() in cookie
    assert MARK[:9].hex() in token
    assert MARK[:10].hex() in key
