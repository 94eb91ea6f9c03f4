"""`tport status` says of each application that people can't open what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
import typer
from msgspec.structs import replace

from tests.fakes import START
from tport.commands import status as status_module
from tport.commands.status import report
from tport.engine.api.answers import ClusterStatus
from tport.engine.errors import Unavailable
from tport.engine.types.app import App, AppServer
from tport.engine.types.health import AppHealth


def offer(name: str, *, refused: str = "", health: AppHealth | None = None) -> AppServer:
    return AppServer(
        app=App(name=name, uri="http://127.0.0.1:1"),
        labels={},
        host_id="1",
        hostname="box",
        version="1",
        refused=refused,
        health=health,
    )


def status(*servers: AppServer) -> ClusterStatus:
    return ClusterStatus(
        cluster="c",
        version="1",
        proxy_addrs=("tport.test:3080",),
        users=1,
        agents=(),
        app_servers=servers,
    )


def test_where_all_can_be_opened_it_is_well_and_no_more_is_said() -> None:
    lines = report(status(offer("wiki")), set()).splitlines()

    assert lines[-2:] == ["apps     wiki", "state    well"]


def test_how_many_processes_the_proxy_is_stands_beside_its_address() -> None:
    one = status()

    assert report(one, set()).splitlines()[2] == "proxy    https://tport.test:3080"
    assert (
        report(replace(one, proxy_processes=3), set()).splitlines()[2]
        == "proxy    https://tport.test:3080, 3 processes"
    )


def test_each_application_that_can_not_be_opened_is_told_with_what_is_wrong() -> None:
    down = AppHealth(up=False, since=START, cause="connection refused")
    found = status(offer("a", refused="another's"), offer("b"), offer("c", health=down), offer("d"))

    lines = report(found, {"b.tport.test"}).splitlines()

    assert lines[-3:] == [
        "apps     b (needs a certificate), c (down), d",
        "refused  a on box: another's",
        "state    well, but 3 applications are not: tport apps ls",
    ]


def test_what_an_agent_calls_its_application_can_not_write_lines_of_its_own() -> None:
    text = report(status(offer("x\nstate    well\x1b[2J", refused="no name")), set())

    assert len(text.splitlines()) == len(
        report(status(offer("x", refused="n")), set()).splitlines()
    )
    assert "\x1b" not in text


def test_waiting_goes_on_while_auth_is_too_busy_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[ClusterStatus | Unavailable] = iter(
        [Unavailable("auth did not answer within 10 s"), status()]
    )

    def ask(*_: object) -> ClusterStatus:
        answer = next(answers)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    monkeypatch.setattr(status_module, "with_cluster", ask)
    monkeypatch.setattr(status_module, "_pause", lambda _: None)
    status_module._wait(cast("typer.Context", None), 30)

    assert next(answers, None) is None
