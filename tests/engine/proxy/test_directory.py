"""The Applications page lists what may be opened now, and nothing that may not."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

from tests.engine.api.scripted import ScriptedAuth, user
from tests.engine.api.test_cache import following
from tests.fakes import START
from tport.engine.api.changes import AppServersChanged, RoleChanged, UserChanged
from tport.engine.defaults import AUTH_GRACE
from tport.engine.errors import ConnectionProblem, Unavailable
from tport.engine.proxy.directory import Directory
from tport.engine.types.app import App, AppServer
from tport.engine.types.role import PRESETS, Conditions, Role
from tport.engine.types.session import WebSession
from tport.engine.types.user import User

SESSION = WebSession(
    id="w1",
    user="alice",
    user_id="id-alice",
    proofs=1,
    cluster="main",
    created=START,
    expires=START + timedelta(hours=12),
)


def server(name: str, host_id: str = "a", *, refused: str = "", **labels: str) -> AppServer:
    app = App(name=name, uri="http://localhost:3000", labels=labels)
    return AppServer(app=app, labels=labels, host_id=host_id, refused=refused)


def auth_with(*servers: AppServer, role: Role = PRESETS["access"]) -> ScriptedAuth:
    auth = ScriptedAuth()
    auth.first = [
        RoleChanged(role=role),
        UserChanged(user=user()),
        AppServersChanged(servers=servers),
    ]
    return auth


async def listed(auth: ScriptedAuth) -> list[str]:
    async with following(auth) as cache:
        directory = Directory(cache, lambda app: f"{app.name}.proxy.test:3080")
        return [tile.url for tile in await directory.apps_for(SESSION)]


async def test_applications_are_listed_once_and_by_name() -> None:
    auth = auth_with(server("jupyter"), server("grafana", "a"), server("grafana", "b"))
    assert await listed(auth) == [
        "https://grafana.proxy.test:3080/",
        "https://jupyter.proxy.test:3080/",
    ]


async def test_what_no_role_allows_or_the_cluster_refused_is_not_there() -> None:
    dev = Role(name="access", allow=Conditions(app_labels={"env": ("dev",)}))
    auth = auth_with(
        server("grafana", env="dev"),
        server("payroll", env="prod"),
        server("taken", env="dev", refused="the name is taken"),
        role=dev,
    )
    assert await listed(auth) == ["https://grafana.proxy.test:3080/"]


async def test_of_an_application_that_two_agents_offer_one_allowed_offer_suffices() -> None:
    dev = Role(name="access", allow=Conditions(app_labels={"env": ("dev",)}))
    auth = auth_with(
        server("grafana", "a", env="prod"), server("grafana", "b", env="dev"), role=dev
    )
    assert len(await listed(auth)) == 1


async def test_a_namesake_made_later_sees_nothing_by_an_old_sign_in() -> None:
    auth = auth_with(server("grafana"))
    auth.first.append(UserChanged(user=User(name="alice", roles=("access",), id="another")))
    assert await listed(auth) == []


async def test_when_auth_is_silent_for_too_long_nothing_is_claimed(
    autojump_clock: MockClock,
) -> None:
    auth = auth_with(server("grafana"))
    async with following(auth) as cache:
        auth.refuse_watch = ConnectionProblem("down")
        await auth.lose_watch()
        await trio.sleep(AUTH_GRACE + 1)
        with pytest.raises(Unavailable):
            await Directory(cache, lambda app: app.name).apps_for(SESSION)


@pytest.mark.parametrize(
    ("role", "seen"), [("editor", ["payroll: agent.yaml:7:5: no"]), ("access", []), ("auditor", [])]
)
async def test_why_an_application_is_not_offered_is_for_who_administers(
    role: str, seen: list[str]
) -> None:
    auth = auth_with(server("grafana"), server("payroll", refused="agent.yaml:7:5: no"))
    auth.first.append(RoleChanged(role=PRESETS[role]))
    auth.first.append(UserChanged(user=user(roles=(role,))))
    async with following(auth) as cache:
        refused = await Directory(cache, lambda app: app.name).refused_for(SESSION)

    assert [f"{offer.name}: {offer.reason}" for offer in refused] == seen
