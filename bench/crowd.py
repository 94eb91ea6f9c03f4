"""Many agents in one process, a program of its own: each as real as any, with its own tunnel.

    python -m bench.crowd FOLDER PROXY TOKEN_FILE URI AGENTS APPS

Each agent offers APPS applications, app-<agent>-<number>, all at URI. Prints "ready" when all are in.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

import trio

from tport.engine.agent.service import AgentSettings, run_agent
from tport.engine.config.address import Address, parse_dial_address
from tport.engine.defaults import WEB_PORT
from tport.engine.types.app import App

AT_ONCE = 8  # agents that join


def app_name(agent: int, number: int) -> str:
    return f"app-{agent}-{number}"


async def _main(folder: Path, proxy: Address, token: str, uri: str, agents: int, apps: int) -> None:
    async def secret() -> str:
        return token

    def now() -> datetime:
        return datetime.now(UTC)

    joining = trio.CapacityLimiter(AT_ONCE)

    async def join(agent: int, living: trio.Nursery) -> None:
        own = folder / str(agent)
        own.mkdir(parents=True)
        settings = AgentSettings(
            folder=own,
            proxy=proxy,
            hostname=f"crowd-{agent}",
            apps=[App(name=app_name(agent, number), uri=uri) for number in range(apps)],
            debug_app=False,
            token=secret,
        )
        async with joining:
            await living.start(run_agent, settings, now, trio.Event())

    async with trio.open_nursery() as living:
        async with trio.open_nursery() as arriving:
            for agent in range(agents):
                arriving.start_soon(join, agent, living)
        sys.stdout.write("ready\n")
        sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    _folder, _proxy, _token, _uri, _agents, _apps = sys.argv[1:]
    trio.run(
        _main,
        Path(_folder),
        parse_dial_address(_proxy, WEB_PORT),
        Path(_token).read_text().strip(),
        _uri,
        int(_agents),
        int(_apps),
    )
