"""The service on a disk: what it knows is there after a restart, and what happened can be read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.engine.auth.world import CLUSTER, PASSWORD, PROXY
from tests.fakes import WallClock
from tport.engine.api.answers import SignedIn
from tport.engine.api.protocol import AuthAPI
from tport.engine.audit.trail import open_audit_log
from tport.engine.auth.cluster import AuthSettings
from tport.engine.auth.service import AuthService, open_auth_service
from tport.engine.auth.steady_clock import SteadyClock
from tport.engine.errors import AccessDenied
from tport.engine.storage.sqlite import open_sqlite_backend
from tport.engine.types.event_query import EventQuery
from tport.engine.types.factor import OFF
from tport.engine.types.identity import Identity


@asynccontextmanager
async def start(folder: Path, clock: WallClock) -> AsyncIterator[AuthService]:
    steady = SteadyClock(clock)
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:443",), second_factor=OFF)
    async with (
        open_audit_log(folder / "log", CLUSTER, clock) as audit,
        open_sqlite_backend(folder / "auth.db", steady) as backend,
        open_auth_service(backend=backend, audit=audit, clock=steady, settings=settings) as service,
    ):
        yield service


def as_(service: AuthService, kind: str) -> AuthAPI:
    identity = Identity(kind=kind, name=f"{kind}-1", cluster=CLUSTER)  # type: ignore[arg-type]  # shorter
    return service.as_caller(identity, "192.0.2.7")


async def test_people_sessions_and_authorities_outlive_a_restart(tmp_path: Path) -> None:
    clock = WallClock()
    async with start(tmp_path, clock) as service:
        invite = await as_(service, "admin").create_user(name="alice", roles=("access",), traits={})
        assert invite.url.startswith(f"https://{PROXY}/web/invite/")
        signed_in = await as_(service, "proxy").accept_invite(
            token=invite.url.rpartition("/")[2], password=PASSWORD, remote="", user_agent=""
        )
        assert isinstance(signed_in, SignedIn)
        with pytest.raises(AccessDenied):
            await as_(service, "agent").list_users()
        before = service.authorities

    async with start(tmp_path, clock) as service:
        assert service.authorities == before
        proxy = as_(service, "proxy")
        assert await proxy.web_session(id=signed_in.session.id) == signed_in.session
        await proxy.sign_in(username="alice", password=PASSWORD, remote="", user_agent="")
        page = await as_(service, "admin").search_events(query=EventQuery(), cursor="", limit=100)
    assert [event["code"] for event in reversed(page.events)] == [
        "T1002I",
        "T1005I",
        "T1000I",
        "T3007W",
        "T1000I",
    ]
