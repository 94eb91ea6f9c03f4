"""A cluster to throw away: auth and proxy in one child of this process, the agent in another.

Both are `tport start`, on ports of loopback that the system chooses, with everything in one
temporary folder. However the block is left, they are ended by their process ids and the folder goes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from tport.engine.api.protocol import AuthAPI
from tport.engine.client.connect import AUTH_DIR, Place, open_cluster
from tport.engine.errors import ConnectionProblem, TportError, Unavailable

APP: Final = "selftest"  # the application's name
START: Final = 60.0  # s until a child serves, on a machine that does much else
POLL: Final = 0.05  # s between two looks
GRACE: Final = 5.0  # s that a child gets to end by itself
CLEAN_UP: Final = 10.0  # s for the folder
TOKEN_TTL: Final = 600.0  # s; the agent joins at once
TAIL: Final = 5  # lines of a child's log that say why it ended

_SILENT: Final = {"log": {"severity": "WARN"}}


@dataclass(frozen=True)
class ThrowAway:
    """What runs.

    Attributes:
        auth: an administrator's AuthAPI.
        proxy, agent: process ids; auth is in the proxy's process.
        proxy_addr: host:port for visitors.
    """

    auth: AuthAPI
    proxy: int
    agent: int
    proxy_addr: str


@asynccontextmanager
async def open_throwaway(uri: str) -> AsyncIterator[ThrowAway]:
    """Run a cluster whose agent offers the application at `uri` as APP.

    Raises:
        TportError: a child ended, or is not ready in time; with what it said.
    """
    async with _open_folder() as folder, trio.open_nursery() as children:
        data = folder / "server"
        services = await Child.start(children, folder, "server", _server_file(data))
        place = Place(data / AUTH_DIR, "of the selftest")
        await services.until(lambda: _answers(place))
        async with open_cluster(place) as auth:
            proxy_addr = (await auth.status()).proxy_addrs[0]
            token = await auth.create_token(
                roles=("app",), ttl=TOKEN_TTL, app_name=APP, app_uri=uri, max_uses=1
            )
            text = _agent_file(folder / "agent", proxy_addr, token.token, uri)
            agent = await Child.start(children, folder, "agent", text)
            await agent.until(lambda: _offers(auth))
            yield ThrowAway(auth, services.pid, agent.pid, proxy_addr)
        children.cancel_scope.cancel()


async def _answers(place: Place) -> bool:
    try:
        async with open_cluster(place) as auth:
            return bool((await auth.status()).proxy_addrs)
    except (ConnectionProblem, Unavailable):
        return False


async def _offers(auth: AuthAPI) -> bool:
    servers = (await auth.status()).app_servers
    return any(server.app.name == APP and not server.refused for server in servers)


# --- Files ---------------------------------------------------------------------------------------


def _server_file(data: Path) -> Mapping[str, object]:
    return {
        "tport": {"data_dir": str(data), **_SILENT},
        "auth_service": {
            "enabled": "yes",
            "listen_addr": "127.0.0.1:0",
            "authentication": {"second_factor": "off"},  # it lives for seconds, on loopback
        },
        "proxy_service": {"enabled": "yes", "web_listen_addr": "127.0.0.1:0"},
        "app_service": {"enabled": "no"},
    }


def _agent_file(data: Path, proxy_addr: str, token: str, uri: str) -> Mapping[str, object]:
    return {
        "tport": {
            "data_dir": str(data),
            "auth_token": token,
            "auth_servers": [proxy_addr],
            **_SILENT,
        },
        "auth_service": {"enabled": "no"},
        "proxy_service": {"enabled": "no"},
        "app_service": {"enabled": "yes", "apps": [{"name": APP, "uri": uri}]},
    }


@asynccontextmanager
async def _open_folder() -> AsyncIterator[Path]:
    """Lend a folder that only this user can read."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="tport-selftest-"))
    except OSError as problem:
        raise TportError(
            f"no folder for temporary files can be made: {problem.strerror}",
            hint="name another place for it: TMPDIR=DIR tport selftest",
        ) from None
    try:
        yield folder
    finally:
        with trio.move_on_after(CLEAN_UP, shield=True):
            await trio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))


# --- Children --------------------------------------------------------------------------------------


class Child:
    """A `tport start` of ours; it ends with its nursery."""

    def __init__(self, process: trio.Process, name: str, log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._name = name
        self._log = log

    @classmethod
    async def start(
        cls, nursery: trio.Nursery, folder: Path, name: str, config: Mapping[str, object]
    ) -> Child:
        file, log = folder / f"{name}.yaml", folder / f"{name}.log"
        await trio.to_thread.run_sync(_write_private, file, msgspec.json.encode(config))
        # -P: nothing in the folder where one happens to be is taken for a module of ours.
        argv = [sys.executable, "-P", "-m", "tport", "start", f"--config={file}"]
        with log.open("wb") as output:
            process = await nursery.start(
                partial(
                    trio.run_process,
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    check=False,
                    deliver_cancel=_end,
                    cwd=folder,
                    env=_environment(),
                )
            )
        return cls(process, name, log)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until `holds`.

        Raises:
            TportError: the child has ended, or START has passed; with the end of its log.
        """
        with trio.move_on_after(START):
            while not await holds():
                if self._process.returncode is not None:
                    raise TportError(f"the selftest's {self._name} ended: {self._last_words()}")
                await trio.sleep(POLL)
            return
        raise TportError(
            f"the selftest's {self._name} is not ready after {START:g} s: {self._last_words()}"
        )

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return "\n".join(lines[-TAIL:]) or "it said nothing"


async def _end(process: trio.Process) -> None:
    """End a child: it is asked, then it is killed. Its own end cancels this."""
    process.terminate()
    await trio.sleep(GRACE)
    process.kill()


def _environment() -> dict[str, str]:
    """Return ours without what would make a child find another cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TPORT_")}


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
