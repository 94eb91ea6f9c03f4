"""The audit log and the log of requests, through a whole cluster: all is found there, and no secret."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import trio

from tests.browser import Browser
from tests.stack import Person, Stack, open_stack, read_all
from tport.engine.config.model import AuditLogs
from tport.engine.errors import AccessDenied, Unavailable
from tport.engine.types.chain import ChainState
from tport.engine.types.event_query import EventQuery, LogName

LOGS: tuple[LogName, ...] = ("audit", "requests")
SECRET = "open-sesame-8b1f"


def logs(stack: Stack, log: LogName) -> list[Path]:
    return sorted((stack.running.config.data_dir / "auth" / log).glob("*.jsonl"))


async def test_a_request_is_found_with_who_what_and_how_it_ended(
    stack: Stack, alice: Person
) -> None:
    """OPS-01: once it has ended, by its user, application, path, status and bytes."""
    await alice.open("echo")
    cookie = {"Cookie": alice.cookie("echo"), "User-Agent": "curl/8"}
    answer = await stack.request(
        stack.host("echo"), "/a/b?c=d", cookie, method="POST", body=b"x" * 1000
    )
    assert answer.status == 200

    [found] = await stack.requests(path="/a/b")
    assert (
        found.items()
        >= {
            "event": "app.session.request",
            "code": "T2009I",
            "user": "alice",
            "app_name": "echo",
            "method": "POST",
            "status_code": 200,
            "bytes_in": 1000,
            "bytes_out": 1000,
            "addr.remote": "127.0.0.1",
            "user_agent": "curl/8",
        }.items()
    )
    duration = found["duration_ms"]
    assert isinstance(duration, float)
    assert 0 < duration < 10_000


async def test_ops_01_no_secret_is_in_any_record(stack: Stack, alice: Person) -> None:
    """OPS-01, WEB-08: cookies, codes, tokens, passwords, Authorization, the query."""
    browser = Browser(stack)
    await browser.sign_in("alice")
    await browser.go(stack.url("echo", f"/?token={SECRET}"))
    await alice.get(
        "echo",
        f"/path?password={SECRET}",
        Authorization=f"Bearer {SECRET}",
        **{"X-Api-Key": SECRET, "Referer": f"https://x/?{SECRET}"},
    )
    await stack.requests(path="/path")

    text = "".join(file.read_text() for log in LOGS for file in logs(stack, log))
    assert "/path" in text
    secrets = [SECRET, alice.web, *alice.apps.values(), "Bearer", "eyJ", "code=", "walrus"]
    secrets += browser.secrets()
    assert len(secrets) > 8
    for secret in secrets:
        assert secret not in text


async def test_ops_01_hostile_agents_and_paths_make_one_line_each(
    stack: Stack, alice: Person
) -> None:
    """OPS-01: bytes that a head may hold and a terminal would obey."""
    await alice.get("echo", "/x%0a%1b[2J", **{"User-Agent": "\x85\x9b31m\xff" + "<script>" * 900})
    await stack.requests(path="/x%0a%1b[2J")

    for log in LOGS:
        for file in logs(stack, log):
            for line in file.read_bytes().splitlines():
                assert all(0x20 <= byte < 0x7F for byte in line)
                assert len(line) < 65536
                assert json.loads(line)["event"]


async def test_a_request_without_an_answer_is_found_with_the_reason(
    stack: Stack, alice: Person
) -> None:
    answer = await alice.get("raw", "/nothing")
    assert answer.status == 502

    [found] = await stack.requests(path="/nothing")
    assert found["status_code"] == 502
    assert str(found["error"]).startswith("broken: ")


async def test_an_answer_that_was_cut_is_found_as_such(stack: Stack, alice: Person) -> None:
    stack.raw_app.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    with pytest.raises((EOFError, trio.BrokenResourceError)):
        await alice.get("raw", "/half")

    [found] = await stack.requests(path="/half")
    assert (found["status_code"], found["bytes_out"], found["error"]) == (200, 4, "cut")


async def test_a_websocket_is_found_when_it_ends_with_all_that_it_carried(
    stack: Stack, alice: Person
) -> None:
    async def echo(stream: trio.SocketStream) -> None:
        await stack.raw_app.take_head(stream)
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        await stream.send_all(await stream.receive_some())

    stack.raw_app.script = echo
    await alice.open("raw")
    host = stack.host("raw")
    client = await stack.connect(host)
    await client.send_all(
        f"GET /ws HTTP/1.1\r\nHost: {host}:{stack.port}\r\nOrigin: https://{host}:{stack.port}\r\n"
        f"Cookie: {alice.cookie('raw')}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    with trio.fail_after(5):
        await client.receive_some()
        await client.send_all(b"\x82\x8a\0\0\0\0" + b"x" * 10)
        await read_all(client)
    await trio.aclose_forcefully(client)

    [found] = await stack.requests(path="/ws")
    assert (found["status_code"], found["bytes_in"], found["bytes_out"]) == (101, 16, 16)


async def test_a_refused_request_is_an_event_and_no_request(stack: Stack, alice: Person) -> None:
    await alice.get("echo", "/before")
    await stack.admin.update_user(name="alice", roles=("auditor",), traits=None)
    await alice.get("echo", "/after")

    found = await stack.requests(path="/before")
    assert [each["path"] for each in found] == ["/before"]


async def test_ops_02_while_requests_cannot_be_written_the_application_answers(
    stack: Stack, alice: Person
) -> None:
    """OPS-02: and they are written when they can be, without a restart."""
    await alice.get("echo", "/first")
    await stack.requests(path="/first")
    [file] = logs(stack, "requests")
    kept = file.with_name("kept")
    os.rename(file, kept)
    file.mkdir()  # as good as a full disk

    assert (await alice.get("echo", "/second")).status == 200
    await trio.sleep(1)
    file.rmdir()
    os.rename(kept, file)

    found = await stack.requests(path="/second")
    assert [each["path"] for each in found] == ["/second", "/first"]
    report = await stack.admin.check_events(log="requests", state=ChainState())
    assert report.findings == ()


async def test_ops_02_what_must_leave_a_trace_is_not_done_without(stack: Stack) -> None:
    """OPS-02: a user is not made while the audit log can't be written."""
    [file] = logs(stack, "audit")
    kept = file.with_name("kept")
    os.rename(file, kept)
    file.mkdir()
    with pytest.raises(Unavailable):
        await stack.admin.create_user(name="mallory", roles=("access",), traits={})
    file.rmdir()
    os.rename(kept, file)

    await stack.admin.create_user(name="mallory", roles=("access",), traits={})


async def test_az_05_the_log_is_read_by_auditors_alone(stack: Stack) -> None:
    """AZ-05: in the browser, too, nobody else reads what others did."""
    for role, may in (("auditor", True), ("editor", False), ("access", False)):
        person = await stack.user(f"her-{role}", roles=(role,))
        acting = stack.api.acting_for(person.web)
        for log in LOGS:
            query = EventQuery(log=log)
            if may:
                await acting.search_events(query=query, cursor="", limit=1)
            else:
                with pytest.raises(AccessDenied):
                    await acting.search_events(query=query, cursor="", limit=1)


async def test_requests_are_not_recorded_where_that_is_switched_off() -> None:
    async with open_stack(audit=AuditLogs(request_log=False)) as stack:
        alice = await stack.user("alice")
        assert (await alice.get("echo")).status == 200
        await trio.sleep(0.5)

        assert logs(stack, "requests") == []
