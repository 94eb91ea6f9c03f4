"""Which applications are opened together with one: what the person may open, and a bounded number."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.engine.api.scripted import user
from tport.engine.proxy import companions as companions_module
from tport.engine.proxy.companions import companions
from tport.engine.types.app import App, AppServer
from tport.engine.types.role import Conditions, Role

ROLES = {"access": Role(name="access", allow=Conditions(app_labels={"env": ("dev",)}))}
MAIN = App(name="main", uri="http://localhost:1", group="suite", required_apps=("needed",))


def offer(name: str, *, env: str = "dev", refused: str = "", group: str = "") -> AppServer:
    app = App(name=name, uri="http://localhost:1", group=group)
    return AppServer(app=app, labels={"env": env}, host_id="a", refused=refused)


def found(*servers: AppServer, app: App = MAIN, path: str = "/") -> tuple[str, ...]:
    return companions(app, user(), servers=servers, roles=ROLES, proxy_host="proxy.test", path=path)


def test_what_is_needed_comes_first_then_the_others_of_the_group() -> None:
    servers = (offer("beside", group="suite"), offer("needed"), offer("alien", group="other"))

    assert found(*servers) == ("needed.proxy.test", "beside.proxy.test")
    assert found(*servers, app=replace(MAIN, group="")) == ("needed.proxy.test",)


@pytest.mark.parametrize(
    "servers",
    [(), (offer("needed", env="prod"),), (offer("needed", refused="its name is taken"),)],
    ids=["not offered", "not allowed", "refused"],
)
def test_what_may_not_be_opened_is_left_out_and_keeps_nothing_from_opening(
    servers: tuple[AppServer, ...],
) -> None:
    assert found(*servers) == ()


def test_they_are_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companions_module, "MAX_COMPANIONS", 2)
    servers = [offer(f"a{number}", group="suite") for number in range(5)]

    assert found(*servers) == ("a0.proxy.test", "a1.proxy.test")


def test_a_long_path_leaves_room_for_fewer() -> None:
    servers = [offer(f"a{number}", group="suite") for number in range(3)]
    path = "/" + "x" * (companions_module.ROOM - len("a0.proxy.test") - 1)

    assert len(found(*servers)) == 3
    assert found(*servers, path=path) == ("a0.proxy.test",)
    assert found(*servers, path=path + "x") == ()
