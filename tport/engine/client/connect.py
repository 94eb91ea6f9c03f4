"""How a command finds its cluster, and opens an AuthAPI to it.

Auth leaves two files in `<data_dir>/auth/`: `admin.pem`, an administrator's certificate and key
that only its own OS user can read, and `admin.addr`, where it listens. A command that can read
them administers the cluster: by mutual TLS, never by opening the database.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import trio

from tport.engine.api.protocol import AuthAPI
from tport.engine.api.remote import check_is_auth, open_remote_auth
from tport.engine.config.address import parse_dial_address
from tport.engine.config.load import DEFAULT_FILE, load_config
from tport.engine.config.resolve import Machine, default_data_dir
from tport.engine.defaults import ALPN_AUTH, AUTH_PORT
from tport.engine.errors import (
    AccessDenied,
    ConfigError,
    ConnectionProblem,
    InvalidRequest,
    NotFound,
)
from tport.engine.files import write_whole
from tport.engine.net.dial import dial_tcp
from tport.engine.net.tls import connect_tls
from tport.engine.pki.contexts import auth_client_context
from tport.engine.pki.keys import KeyPair

AUTH_DIR: Final = "auth"  # in a data directory
ADMIN_FILE: Final = "admin.pem"  # in AUTH_DIR: certificate, key, then the host authorities
ADDRESS_FILE: Final = "admin.addr"  # in AUTH_DIR: host:port
_UP: Final = "tport up"
UP_DIR: Final = "up"  # in the user's state directory: what `tport up` keeps


@dataclass(frozen=True)
class Place:
    """A cluster on this machine: the folder with its admin files, and how it was found.

    Attributes:
        elsewhere: a file named it, and says that its auth service doesn't run by that file.
        file: the file that named it; None: no file did.
    """

    folder: Path
    how: str
    elsewhere: bool = False
    file: Path | None = None

    @property
    def start(self) -> str:
        """The command that starts it, as far as is known."""
        if self.file is not None:
            return f"tport start --config {shlex.quote(str(self.file))}"
        return "tport up, or: tport start --config FILE"


def up_data_dir(machine: Machine) -> Path:
    """Return where `tport up` keeps its cluster for this OS user."""
    if given := machine.env.get("TPORT_DATA_DIR"):
        return Path(given)
    state = machine.env.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else machine.home / ".local" / "state"
    return base / "tport" / UP_DIR


def find_cluster(
    *,
    config: Path | None,
    data_dir: Path | None,
    machine: Machine | None = None,
    shown_by: str = ADMIN_FILE,
) -> Place:
    """Find the cluster that a command is about.

    By `--config`, `--data-dir`, `$TPORT_CONFIG_FILE`, `$TPORT_DATA_DIR`, a `tport up` of this
    user, /etc/tport.yaml, and last the default data directory. What is named must be there;
    the others are tried in turn.

    Args:
        shown_by: the file in auth's folder that must be there: by the default one, auth has run.

    Raises:
        ConfigError: the file that names the data directory is faulty.
        NotFound: no cluster; the message names what was tried.
        AccessDenied: there is one, and it's another OS user's.
    """
    machine = machine or Machine.here()
    tried: list[str] = []
    elsewhere = False
    for place in _places(config, data_dir, machine):
        tried.append(f"{place.folder} ({place.how})")
        elsewhere = elsewhere or place.elsewhere
        try:
            os.stat(place.folder / shown_by)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            raise AccessDenied(
                f"the cluster in {place.folder} belongs to another user",
                hint="run this as the user that runs tport, or with sudo",
            ) from None
        return place
    if elsewhere and len(tried) == 1:
        raise NotFound(
            f"the auth service does not run by this file; looked in {tried[0]}",
            hint="it is an agent's or a proxy's file: run this command where auth runs, with that"
            " one's file",
        )
    if place.file is not None and len(tried) == 1:
        raise NotFound(
            f"no cluster has run by this file yet; looked in {tried[0]}",
            hint=f"start it: {place.start}",
        )
    raise NotFound(
        "no cluster found on this machine; looked in " + ", ".join(tried),
        hint="start one: tport up; or name yours: tport --config FILE … or --data-dir DIR",
    )


def named_data_dir(
    *, config: Path | None, data_dir: Path | None, machine: Machine | None = None
) -> Path:
    """Return the data directory that is meant, whether or not there is a cluster in it.

    As `find_cluster` looks, but for a `tport up`, which nobody names; last the default.

    Raises:
        ConfigError: the file that names it is faulty.
    """
    machine = machine or Machine.here()
    places = _places(config, data_dir, machine)
    return next(place for place in places if place.how != _UP).folder.parent


def _places(config: Path | None, data_dir: Path | None, machine: Machine) -> Iterator[Place]:
    """Yield where to look, in order; something named is the only one."""
    env: Mapping[str, str] = machine.env
    if config is not None:
        yield _of_file(config, "--config", machine)
    elif data_dir is not None:
        yield Place(data_dir.absolute() / AUTH_DIR, "--data-dir")
    elif file := env.get("TPORT_CONFIG_FILE"):
        yield _of_file(Path(file), "$TPORT_CONFIG_FILE", machine)
    elif folder := env.get("TPORT_DATA_DIR"):
        yield Place(Path(folder).absolute() / AUTH_DIR, "$TPORT_DATA_DIR")
    else:
        yield Place(up_data_dir(machine) / AUTH_DIR, _UP)
        if DEFAULT_FILE.exists():
            yield _of_file(DEFAULT_FILE, str(DEFAULT_FILE), machine)
        yield Place(default_data_dir(machine) / AUTH_DIR, "the default")


def _of_file(path: Path, how: str, machine: Machine) -> Place:
    config = load_config(path, machine=machine)
    elsewhere = not config.auth_service.enabled
    return Place(config.data_dir / AUTH_DIR, how, elsewhere=elsewhere, file=path)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all. Blocks."""
    write_whole(path, text.encode("ascii"))


@asynccontextmanager
async def open_cluster(place: Place) -> AsyncIterator[AuthAPI]:
    """Open an administrator's AuthAPI to the cluster at `place`.

    Raises:
        AccessDenied: the admin files are another OS user's.
        ConnectionProblem: nothing of this cluster listens there: it isn't running.
        ConfigError: the admin files are damaged.
    """
    try:
        text = await trio.Path(place.folder / ADMIN_FILE).read_text("ascii")
        address = (await trio.Path(place.folder / ADDRESS_FILE).read_text("ascii")).strip()
    except PermissionError as problem:
        raise AccessDenied(
            f"{problem.filename} can't be read by you",
            hint="run this as the user that runs tport, or with sudo",
        ) from None
    except FileNotFoundError as problem:
        raise _not_running(place, f"{problem.filename} is missing") from None
    except UnicodeDecodeError:
        raise _damaged(place) from None
    pair, authorities = _split_pem(text, place)
    context = auth_client_context(pair, authorities)
    try:
        where = parse_dial_address(address, AUTH_PORT)
    except InvalidRequest:
        raise _damaged(place) from None

    async def dial() -> trio.abc.Stream:
        try:
            stream = await dial_tcp(where.host, where.port)
            tls = await connect_tls(stream, context, server_name=None, alpn=ALPN_AUTH)
        except ConnectionProblem as problem:
            raise _not_running(place, str(problem)) from problem
        try:
            check_is_auth(tls.peer_certificate, authorities, datetime.now(UTC))
        except AccessDenied as denied:
            await trio.aclose_forcefully(tls)
            why = f"what listens at {where} is not its auth service ({denied.reason})"
            raise _not_running(place, why) from None
        return tls

    async with open_remote_auth(dial) as auth:
        yield auth


def _not_running(place: Place, why: str) -> ConnectionProblem:
    return ConnectionProblem(
        f"the cluster of {place.folder.parent} ({place.how}) does not answer: {why}",
        hint=f"is it running? start it with: {place.start}",
    )


def _damaged(place: Place) -> ConfigError:
    return ConfigError(
        "is damaged",
        where=place.folder / ADMIN_FILE,
        hint="the auth service writes it anew when it starts: restart it",
    )


def _split_pem(text: str, place: Place) -> tuple[KeyPair, tuple[str, ...]]:
    """Split an admin file into its leaf and key, and the authorities."""
    blocks = [f"-----BEGIN {part}" for part in text.split("-----BEGIN ")[1:]]
    if len(blocks) < 3:
        raise _damaged(place)
    return KeyPair(chain=blocks[0], key=blocks[1]), tuple(blocks[2:])
