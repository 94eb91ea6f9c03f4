"""What is offered changes while requests run: what stays, what is made anew, what goes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest
import trio
from msgspec.structs import replace

from tport.engine.agent.offers import AgentOffers, AppSet, closing_offers
from tport.engine.agent.passage import Offered
from tport.engine.defaults import MAX_OFFERS
from tport.engine.proto.tunnel import MAX_MESSAGE, pack
from tport.engine.types.app import DEBUG_APP, KEPT, App, DynamicLabel, Header, Rewrite, UpstreamTls

ONE = App(name="one", uri="http://127.0.0.1:1")
TWO = App(name="two", uri="http://127.0.0.1:2")
NO_CA = App(name="tls", uri="https://127.0.0.1:3", tls=UpstreamTls(ca_file="/there/is/none.pem"))
LABELLED = replace(
    TWO, commands=(DynamicLabel(name="os", command=("/bin/echo", "plan9"), period=1),)
)
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="the command is a POSIX one")


class Agent:
    def __init__(self, offered: dict[str, Offered], nursery: trio.Nursery) -> None:
        self.offered = offered
        self.offers = AgentOffers(
            offered, nursery, hostname="box", clock=lambda: datetime(2026, 1, 1, tzinfo=UTC)
        )
        self.nursery = nursery
        self.told: list[list[str]] = []
        self.offers.on_change = lambda: self.told.append(list(offered))

    async def take(self, *apps: App, debug_app: bool = False, **faulty: str) -> None:
        await self.offers.take(AppSet(apps=apps, faulty=faulty, debug_app=debug_app))

    @property
    def red(self) -> dict[str, str]:
        return dict(self.offers.message().faulty)


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    async with closing_offers() as offered, trio.open_nursery() as nursery:
        yield Agent(offered, nursery)
        nursery.cancel_scope.cancel()


async def test_an_unchanged_definition_keeps_all_it_has(agent: Agent) -> None:
    await agent.take(ONE)
    one = agent.offered["one"]
    await agent.take(TWO, App(name="one", uri="http://127.0.0.1:1"))

    assert agent.offered["one"] is one
    assert list(agent.offered) == ["two", "one"]
    assert agent.told[-1] == ["two", "one"]


async def test_a_changed_one_is_made_anew_and_the_old_stays_good_for_what_runs(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await agent.take(ONE, TWO)
    old, two = agent.offered["one"], agent.offered["two"]
    await agent.take(replace(ONE, uri="http://127.0.0.1:9"), TWO)

    new = agent.offered["one"]
    assert new is not old
    assert new.app.uri == "http://127.0.0.1:9"
    assert old.app.uri == ONE.uri
    assert agent.offered["two"] is two
    said = [record.message for record in caplog.records]
    assert said == ["application one is offered as it is defined now"]


async def test_what_a_file_says_to_an_application_itself_no_proxy_hears(agent: Agent) -> None:
    """OPS-03: a password for the application, in a header; the application is sent it as before."""
    headers = (Header("Authorization", "Basic YTpodW50ZXIy"), Header("X-Env", "{{external.env}}"))
    secretive = replace(ONE, rewrite=Rewrite(headers=headers))
    await agent.take(secretive)

    [told] = agent.offers.message().apps
    assert told.rewrite.headers == (Header("Authorization", KEPT), headers[1])
    assert b"YTpodW50ZXIy" not in pack(agent.offers.message())
    assert agent.offered["one"].app == secretive


async def test_what_is_added_and_removed_is_told_in_a_line_each(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await agent.take(ONE)
    await agent.take(TWO)

    assert list(agent.offered) == ["two"]
    said = [record.message for record in caplog.records]
    assert said == [
        "application one is no longer offered",
        "application two is offered from now on",
    ]


async def test_a_bad_one_goes_red_alone_and_is_well_again_when_it_is_mended(agent: Agent) -> None:
    await agent.take(ONE, replace(NO_CA, tls=UpstreamTls()))
    one = agent.offered["one"]

    await agent.take(ONE, NO_CA, worse="tport.yaml:7:1: uri: is missing")
    assert agent.offered == {"one": one}
    assert set(agent.red) == {"tls", "worse"}
    assert "none.pem" in agent.red["tls"]

    await agent.take(ONE, replace(NO_CA, tls=UpstreamTls()))
    assert set(agent.offered) == {"one", "tls"}
    assert agent.red == {}


async def test_no_application_at_all_is_as_good_as_any_set(agent: Agent) -> None:
    await agent.take(ONE, debug_app=True)
    assert set(agent.offered) == {"one", DEBUG_APP}
    await agent.take()
    assert agent.offered == {}
    assert agent.told[-1] == []


async def test_of_more_applications_than_a_proxy_takes_the_first_are_offered(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    """And of the others is said why they aren't: the proxy would refuse all of them together."""
    apps = [replace(ONE, name=f"a{n:04}") for n in range(MAX_OFFERS + 1)]
    await agent.take(*apps, debug_app=True)
    await agent.take(*apps, debug_app=True)

    assert [app.name for app in agent.offers.message().apps] == [
        DEBUG_APP,
        *(f"a{n:04}" for n in range(MAX_OFFERS - 1)),
    ]
    assert set(agent.red) == {"a0999", "a1000"}
    assert "at most 1000" in agent.red["a1000"]
    [said] = [one for one in caplog.messages if "at most 1000" in one]
    assert said.startswith("2 more defined than can be offered")


async def test_what_is_faulty_is_told_before_what_is_too_much(agent: Agent) -> None:
    """A message has no room for all: of the others the log tells."""
    apps = [replace(ONE, name=f"a{n:04}") for n in range(2 * MAX_OFFERS)]
    await agent.take(replace(NO_CA, name="faulty"), *apps)

    assert "faulty" in agent.red


async def test_a_thousand_faulty_ones_fit_into_a_message(agent: Agent) -> None:
    faulty = {f"{'n' * 1000}{number}": "why" * 1000 for number in range(2000)}
    await agent.offers.take(AppSet(apps=(ONE,), faulty=faulty))
    assert len(pack(agent.offers.message())) < MAX_MESSAGE / 2


@needs_posix
async def test_labels_have_their_value_before_a_new_application_is_offered(agent: Agent) -> None:
    await agent.take(ONE)
    agent.told.clear()
    await agent.take(ONE, LABELLED)

    assert agent.offered["two"].labels == {"os": "plan9"}
    assert agent.told == [["one", "two"]]
    [_, two] = agent.offers.message().apps
    assert (two.labels, two.commands) == ({"os": "plan9"}, ())


@needs_posix
@pytest.mark.parametrize("after", [(ONE,), (ONE, TWO)])
async def test_nobody_measures_the_labels_of_what_is_gone(
    agent: Agent, after: Sequence[App]
) -> None:
    await agent.take(ONE, LABELLED)
    assert len(agent.nursery.child_tasks) == 1
    await agent.take(*after)
    with trio.fail_after(5):
        while agent.nursery.child_tasks:  # noqa: ASYNC110 - nothing tells of a task's end
            await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (replace(NO_CA, tls=UpstreamTls(), insecure_skip_verify=True), "is not verified"),
        (replace(ONE, allow_metadata=True), "where clouds keep credentials"),
    ],
)
async def test_what_an_application_is_let_off_from_is_said_at_each_start(
    agent: Agent, caplog: pytest.LogCaptureFixture, app: App, words: str
) -> None:
    await agent.take(app)
    [said] = [record for record in caplog.records if record.levelname == "WARNING"]

    assert f"application {app.name}: it" in said.message
    assert words in said.message
