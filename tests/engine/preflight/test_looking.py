"""What is seen: names by a resolver of the test's own, ports and answers by real sockets."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from tests.ports import free_port
from tport.engine.config.address import Address
from tport.engine.net.dial import open_listener
from tport.engine.preflight.look_machine import look_at_folder
from tport.engine.preflight.look_network import (
    ANSWER,
    LOOKUP,
    ask_app,
    get_https,
    look_at_port,
    look_up,
    own_addresses,
)
from tport.engine.preflight.names import Lookup
from tport.engine.types.app import App

NEVER = TimeoutError()  # the answer of a server that gives none


class Resolver(trio.abc.HostnameResolver):
    """Names as a test wants them. All other names don't exist."""

    def __init__(self, answers: Mapping[str, str | OSError]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        answer = self.answers.get(name, socket.gaierror(socket.EAI_NONAME, "unknown"))
        if answer is NEVER:
            await trio.sleep_forever()
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))]

    async def getnameinfo(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nobody asks for this")


@pytest.mark.parametrize(
    ("answer", "state", "addresses"),
    [
        ("192.0.2.1", "found", ("192.0.2.1",)),
        (socket.gaierror(socket.EAI_NONAME, "no"), "none", ()),
        (socket.gaierror(socket.EAI_AGAIN, "later"), "failed", ()),
        (OSError(errno.ENETUNREACH, "no way"), "failed", ()),
        (NEVER, "failed", ()),
    ],
)
async def test_a_lookup_tells_no_from_no_answer_and_ends(
    answer: str | OSError, state: str, addresses: tuple[str, ...], autojump_clock: MockClock
) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver({"a.test": answer}))

    seen = await look_up("a.test")

    assert seen == Lookup(name="a.test", state=state, addresses=addresses)  # type: ignore[arg-type] # one of the three
    assert trio.current_time() <= LOOKUP


async def test_this_machines_addresses_are_those_it_speaks_from() -> None:
    for address in await own_addresses():
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


async def test_a_public_address_that_leads_here_is_known_by_what_comes_back() -> None:
    here = Address("127.0.0.1", free_port())
    nowhere = Address("127.0.0.1", free_port())
    async with (
        await open_listener(Address("127.0.0.1", 0)) as other,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(
            trio.serve_listeners, lambda stream: stream.send_all(b"220 mail"), [other]
        )
        elsewhere = Address("127.0.0.1", other.socket.getsockname()[1])

        port, reached = await look_at_port(here, [here, elsewhere, nowhere])
        nursery.cancel_scope.cancel()

    assert port.state == "free"
    assert [reach.outcome for reach in reached] == ["here", "other", "failed"]
    assert "connection refused" in reached[2].said


async def test_a_port_that_another_program_has_is_taken() -> None:
    async with (
        await open_listener(Address("127.0.0.1", 0)) as other,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(
            trio.serve_listeners, lambda stream: stream.send_all(b"220 mail"), [other]
        )
        address = Address("127.0.0.1", other.socket.getsockname()[1])

        port, _ = await look_at_port(address, [])
        nursery.cancel_scope.cancel()

    assert port.state == "taken"
    assert f"port {address.port} is in use" in port.said
    assert port.advice


# --- Answers ---------------------------------------------------------------------------------------


def server_context(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def answer_once(stream: trio.abc.Stream) -> None:
    await stream.receive_some()
    await stream.send_all(
        b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 12:00:00 GMT\r\nContent-Length: 2\r\n\r\n{}"
    )


async def test_an_answer_has_its_status_its_clock_and_its_body() -> None:
    ca = trustme.CA()
    client = ssl.create_default_context()
    ca.configure_trust(client)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_ssl_over_tcp, host="127.0.0.1")
        listeners = await nursery.start(serve, answer_once, 0, server_context(ca))
        port = listeners[0].transport_listener.socket.getsockname()[1]

        answer, clock, body = await get_https(f"https://127.0.0.1:{port}/dir?a", client)
        refused, none, _ = await get_https(
            f"https://127.0.0.1:{port}/", ssl.create_default_context()
        )
        nursery.cancel_scope.cancel()

    assert (answer.status, clock, body) == (200, datetime(2026, 1, 1, 12, tzinfo=UTC), b"{}")
    assert (refused.status, none) == (0, None)
    assert refused.said


async def test_who_takes_the_connection_and_says_nothing_is_given_up(
    autojump_clock: MockClock,
) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with await open_listener(Address("127.0.0.1", 0)) as deaf, trio.open_nursery() as nursery:
        port = deaf.socket.getsockname()[1]
        uri = f"http://127.0.0.1:{port}"

        of_app = await ask_app(App(name="a", uri=uri))
        of_authority, _, _ = await get_https(
            f"https://127.0.0.1:{port}/", ssl.create_default_context()
        )
        nursery.cancel_scope.cancel()

    assert of_app.said == f"no answer within {ANSWER:.0f} s"
    assert (of_authority.status, bool(of_authority.said)) == (0, True)
    assert trio.current_time() <= 2 * ANSWER + 1


async def test_an_application_is_asked_for_its_front_page() -> None:
    async with await open_listener(Address("127.0.0.1", 0)) as app, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer_once, [app])
        answer = await ask_app(App(name="a", uri=f"http://127.0.0.1:{app.socket.getsockname()[1]}"))
        nursery.cancel_scope.cancel()

    assert answer.status == 200


# --- Folders ---------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_yet_is_judged_by_what_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert look_at_folder(tmp_path / "a" / "b").parent == str(tmp_path)
    assert look_at_folder(tmp_path).parent == ""
    assert not look_at_folder(tmp_path / "file").is_folder
    assert not look_at_folder(tmp_path / "file" / "data").is_folder
    assert look_at_folder(tmp_path).free > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")
def test_a_folder_that_may_not_be_seen_is_judged_by_what_may(tmp_path: Path) -> None:
    (tmp_path / "closed" / "in").mkdir(parents=True)
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        folder = look_at_folder(tmp_path / "closed" / "in" / "data")
    finally:
        os.seteuid(0)

    assert tmp_path.is_relative_to(folder.parent)
    assert folder.closed == folder.parent


@pytest.mark.parametrize("name", ["", "auth"])
def test_of_a_data_directory_is_said_what_the_start_would_say(tmp_path: Path, name: str) -> None:
    """OPS-04: of it, and of the folders of roles that run here."""
    data, place = tmp_path / "data", tmp_path / "data" / name
    place.mkdir(parents=True)
    for each in (data, place):
        os.chown(each, -1, os.getegid())
        each.chmod(0o775)  # as umask 002 makes them
    assert look_at_folder(data, folders=("auth", "agent")).refused == ""

    place.chmod(0o777)
    found = look_at_folder(data, folders=("auth", "agent"))
    assert found.refused.startswith(f"{place}: may be written by others")
    assert found.advice == f"chmod go-w {place}"
    assert (look_at_folder(data, folders=("proxy",)).refused == "") is bool(name)


def test_a_link_for_a_roles_folder_is_told_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "agent").symlink_to(tmp_path / "elsewhere")

    assert "is a link" in look_at_folder(tmp_path, folders=("auth", "agent")).refused
    assert [each.name for each in tmp_path.iterdir()] == ["agent"]


def test_who_has_folders_of_their_own_need_not_write_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "auth").mkdir()
    monkeypatch.setattr(os, "access", lambda path, _, **__: Path(path).name == "auth")

    assert look_at_folder(tmp_path, folders=("auth",)).closed == ""
    assert look_at_folder(tmp_path, folders=("auth", "agent")).closed == str(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_of_a_roles_folder_that_is_somebody_elses_is_said_whose_it_is(tmp_path: Path) -> None:
    """Something was run as root once, which the service can't write to since."""
    data = tmp_path / "data"
    (data / "auth").mkdir(parents=True, mode=0o700)
    os.chown(data, 65534, -1)
    for each in (tmp_path, *tmp_path.parents[:-1]):
        if "pytest" in str(each):
            each.chmod(0o755)
    os.seteuid(65534)
    try:
        found = look_at_folder(data, folders=("auth", "agent"))
    finally:
        os.seteuid(0)

    assert (found.closed, found.closed_by) == (str(data / "auth"), "root")


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    place = str(tmp_path).replace(" ", "\\040")
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/a rw\n"
        f"2 1 0:9 / {place} rw shared:1 - nfs4 server:/a rw\n"
        f"3 1 0:9 / {place}x rw - tmpfs none rw\n"
        "nonsense\n"
    )

    assert look_at_folder(tmp_path / "data", mounts).filesystem == "nfs4"
    assert look_at_folder(Path("/"), mounts).filesystem == "ext4"
    assert look_at_folder(tmp_path, tmp_path / "gone").filesystem == ""
