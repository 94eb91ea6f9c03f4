"""tport in a large organisation: 1,000 applications, 10,000 sessions, 100 agents.

The agents of the crowd are real ones, in a process of their own that doesn't count: the agent that is
measured is another. The sessions are written into auth's database before it starts, and each is used
twice, so that proxy and agents know it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from bench.cluster import sign_in, stack_of, start_agent
from bench.crowd import app_name
from bench.door import Door
from bench.idle import ask
from bench.stack import HOST, Stack
from bench.upstream import Upstream
from tests.e2e.harness import DOMAIN, Cluster, Tport, start_cluster
from tport.engine.auth.stores import Stores
from tport.engine.storage.backend import BATCH_LIMIT, Operation
from tport.engine.storage.sqlite import open_sqlite_backend
from tport.engine.types.session import AppSession, session_id

AGENTS: Final = 100
APPS: Final = 10  # of each
SESSIONS: Final = 10_000
AT_ONCE: Final = 16  # connections by which they are used
AT_BENCH: Final = (
    9000  # of them at the application that is measured; the others at one of each agent
)

Secrets = dict[str, list[str]]  # host → what its sessions' cookies say


@contextmanager
def open_tport_crowded(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """As installed, and full."""
    folder = home.folder / "tport-crowded"
    folder.mkdir()
    with start_cluster(folder) as cluster:
        visitor = sign_in(cluster)
        cluster.proxy.stop()
        [database] = cluster.data_dir.rglob("tport.db")
        secrets = trio.run(_write_sessions, database)
        cluster.start_services()
        agent = start_agent(cluster, upstream, cluster.port)
        _start_crowd(cluster, upstream)
        stack = stack_of("tport, crowded", cluster, agent, visitor)
        name = stack.pages.cookie.partition("=")[0]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for _ in threads.map(partial(_use, cluster.port, name), _shares(secrets)):
                pass  # what failed raises here
        cookies = tuple(f"{name}={secret}" for secret in secrets[HOST])
        yield Stack(stack.name, stack.pages, stack.origin, stack.roots, cookies)


def _start_crowd(cluster: Cluster, upstream: Upstream) -> None:
    crowd = cluster.spawn(
        [
            sys.executable, "-m", "bench.crowd", str(cluster.folder / "crowd"),
            f"{DOMAIN}:{cluster.port}", str(cluster.token()),
            f"http://127.0.0.1:{upstream.pages}", str(AGENTS), str(APPS),
        ],
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    crowd.wait_for("ready", 120)


def _shares(secrets: Secrets) -> Iterator[tuple[str, Sequence[str]]]:
    """Share the sessions out over connections: each has a host, and some of its sessions."""
    size = SESSIONS // AT_ONCE
    for host, its in secrets.items():
        for start in range(0, len(its), size):
            yield host, its[start : start + size]


def _use(port: int, name: str, sessions: tuple[str, Sequence[str]]) -> None:
    """Ask for the page twice by each of these sessions of a host, over one connection."""
    host, secrets = sessions
    with Door(host, port).connect() as sock:
        for secret in (*secrets, *secrets):
            ask(sock, Door(host, port, (f"Cookie: {name}={secret}",)))


async def _write_sessions(database: Path) -> Secrets:
    """Write application sessions of the one person who is signed in; return their secrets."""
    async with open_sqlite_backend(database, partial(datetime.now, UTC)) as backend:
        stores = Stores(backend)
        [web] = await stores.web_sessions.all()
        user = await stores.users.get(web.user)
        apps = ["bench"] * AT_BENCH
        apps += [app_name(number % AGENTS, 0) for number in range(SESSIONS - AT_BENCH)]
        secrets: Secrets = {}
        operations: list[Operation] = []
        for number, app in enumerate(apps):
            host, secret = f"{app}.{DOMAIN}", f"{number:043d}"
            session = AppSession(
                id=session_id(secret), web_session=web.id, user=user.name, user_id=user.id,
                epoch=user.epoch, cluster=web.cluster, app=app, host=host, created=web.created,
                expires=web.expires,
            )  # fmt: skip
            operations.append(
                stores.app_sessions.creating(session.id, session, expires=session.expires)
            )
            operations.append(
                stores.sessions_of.creating(
                    f"{web.id}/{session.id}", msgspec.Raw(b"null"), expires=session.expires
                )
            )
            secrets.setdefault(host, []).append(secret)
        for start in range(0, len(operations), BATCH_LIMIT):
            await stores.batch(operations[start : start + BATCH_LIMIT])
    return secrets
