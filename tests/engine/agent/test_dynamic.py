"""Which of the applications that auth hands out an agent offers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tport.engine.agent.dynamic import TAKEN, with_dynamic
from tport.engine.agent.offers import AppSet
from tport.engine.config.dynamic_apps import Matcher
from tport.engine.types.app import App, DynamicLabel, UpstreamTls

ONE = App(name="one", uri="http://localhost:1", labels={"env": "dev", "team": "a"})
TWO = App(name="two", uri="http://localhost:2", labels={"env": "prod"})
BARE = App(name="bare", uri="http://localhost:3")


@pytest.mark.parametrize(
    ("matchers", "names"),
    [
        ([], []),
        ([{"*": ("*",)}], ["bare", "one", "two"]),
        ([{"env": ("dev",)}], ["one"]),
        ([{"env": ("dev", "prod")}], ["one", "two"]),
        ([{"env": ("dev",), "team": ("b",)}], []),
        ([{"env": ("p*",)}, {"team": ("^a|b$",)}], ["one", "two"]),
    ],
)
def test_keys_are_anded_values_and_matchers_ored(matchers: list[Matcher], names: list[str]) -> None:
    offered = with_dynamic(AppSet(apps=(), matchers=matchers), [TWO, ONE, BARE])

    assert [app.name for app in offered.apps] == names
    assert offered.faulty == {}


def test_the_file_s_own_application_wins_and_the_other_is_shown_refused() -> None:
    own = replace(ONE, uri="http://localhost:9", labels={})
    wanted = AppSet(apps=(own,), matchers=[{"*": ("*",)}], debug_app=True)

    offered = with_dynamic(wanted, [ONE, TWO])

    assert offered.apps == [own, TWO]
    assert offered.faulty == {"one (dynamic)": TAKEN}


def test_a_faulty_application_of_the_file_keeps_its_name() -> None:
    wanted = AppSet(apps=(), faulty={"one": "bad"}, matchers=[{"*": ("*",)}])

    assert with_dynamic(wanted, [ONE]).faulty == {"one": "bad", "one (dynamic)": TAKEN}


@pytest.mark.parametrize(
    "bad",
    [
        replace(ONE, commands=(DynamicLabel(name="x", command=("/bin/ls",), period=1),)),
        replace(ONE, allow_metadata=True),
        replace(ONE, uri="http://169.254.169.254/"),
        replace(ONE, uri="http://[::ffff:a9fe:a9fe]/"),
        replace(ONE, uri="gopher://x"),
        replace(ONE, tls=UpstreamTls(ca_file="/etc/passwd")),
    ],
)
def test_an_agent_judges_by_itself_what_it_is_handed(bad: App) -> None:
    """AG-14, AG-07: an auth service that was taken over runs no program on agents."""
    offered = with_dynamic(AppSet(apps=(), matchers=[{"*": ("*",)}]), [bad])

    assert offered.apps == []
    assert list(offered.faulty) == ["one"]
