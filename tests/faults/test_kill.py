"""R-18, OPS-04: an auth service that is killed at any moment has lost nothing that it acknowledged."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from tests.faults.auth_until_killed import run
from tests.figures import Hold
from tport.engine.storage.snapshot import take_snapshot

FEW, MANY = 5, 200
WRITES: Final = 4  # that one acknowledges before it is killed, however slow the machine
LONGEST: Final = 0.4  # s more that it serves
STARTING: Final = 0.2  # s within which one is killed that may not serve yet
ROUNDS: Final = (
    20  # with one folder: the next is begun anew, so that first starts are cut short, too
)

logger = logging.getLogger(__name__)

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.faults.auth_until_killed"])


@dataclass
class Told:
    """What an auth service said before it was killed."""

    made: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)

    def take(self, text: str) -> None:
        for line in text.split("\n")[:-1]:
            kinds = {"+": self.made, "?": self.asked, "-": self.deleted}
            if line != "!":
                kinds[line[0]].add(line[1:])

    @property
    def acknowledged(self) -> int:
        return len(self.made) + len(self.deleted)


def serve_and_kill(folder: Path, chance: random.Random, *, early: bool) -> str:
    """Start an auth service, kill it at a random moment, and return what it said."""
    reader, writer = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=run, args=(folder, writer))
    process.start()
    writer.close()
    with closing(reader), open(reader.fileno(), "rb", closefd=False) as told:
        said = b""
        if early:
            time.sleep(chance.uniform(0, STARTING))  # the fault's own moment, in real time
        else:
            for _ in range(1 + WRITES):
                line = told.readline()
                assert line, f"it ended by itself, and said {said!r}"
                said += line
            time.sleep(chance.uniform(0, LONGEST))
        process.kill()
        said += told.read()
    process.join(10)
    assert process.exitcode == -9
    process.close()
    return said.decode()


def kept(folder: Path) -> set[str]:
    """Return the ids of the tokens in a database that is sound, without opening it for writing."""
    path = folder / "auth" / "tport.db"
    snapshot = take_snapshot(path)
    assert snapshot.complaints == ()
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(snapshot.data)
        prefix = "/tokens/"
        rows = connection.execute(
            "SELECT key FROM items WHERE key >= ? AND key < ?",
            (prefix.encode(), prefix.encode() + b"\xff"),
        )
        return {key.decode().removeprefix(prefix) for (key,) in rows}


def partial_files(folder: Path) -> Iterator[str]:
    """Name each key, certificate or address that is there and not whole, or that others may read."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_mode & 0o077:
            yield f"{path.name} is open to others"
    auth = folder / "auth"
    readers: Mapping[str, Callable[[bytes], object]] = {
        "admin.pem": lambda data: (
            load_pem_x509_certificates(data),
            load_pem_private_key(data, None),
        ),
        "factors.key": lambda data: b64decode(data, validate=False)[31],
        "admin.addr": lambda data: int(data.decode().rpartition(":")[2]),
    }
    for name, read in readers.items():
        try:
            read((auth / name).read_bytes())
        except FileNotFoundError:
            pass  # not made yet
        except (ValueError, IndexError) as problem:
            yield f"{name}: {problem}"


@pytest.mark.parametrize(
    "kills", [FEW, pytest.param(MANY, marks=[pytest.mark.torture, pytest.mark.timeout(600)])]
)
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path, hold: Hold, kills: int) -> None:
    """R-18, OPS-04: tokens made and deleted by six tasks at once; every fourth is killed while it starts.

    After each kill the database is sound by itself and by its mark, and no key or certificate is half
    written. A write that was on its way may be there or not.
    """
    seed = random.SystemRandom().getrandbits(32)
    logger.info(f"seed {seed}")  # pytest shows it where this fails
    chance = random.Random(seed)
    acknowledged = lost = revived = 0
    partial: list[str] = []
    told = Told()

    for number in range(kills):
        folder = tmp_path / str(number // ROUNDS)
        if number % ROUNDS == 0:
            told = Told()
        told_before = told.acknowledged
        told.take(serve_and_kill(folder, chance, early=number % 4 == 0))
        acknowledged += told.acknowledged - told_before
        partial += partial_files(folder)
        if not (folder / "auth" / "tport.db").exists():
            assert not told.made
            continue
        if not told.made and not take_if_begun(folder):
            continue
        tokens = kept(folder)
        lost += len(told.made - told.asked - tokens)
        revived += len(told.deleted & tokens)

    hold(f"R-18 acknowledged writes lost in {kills} kills", lost + revived, at_most=0)
    hold(f"R-18 keys and certificates half written in {kills} kills", len(partial), at_most=0)
    least = 10_000 if kills == MANY else 10
    hold(f"R-18 acknowledged writes in {kills} kills", acknowledged, at_least=least)


def take_if_begun(folder: Path) -> bool:
    """Tell whether the first start came as far as making the tables: before, nothing can be read."""
    copied = shutil.copytree(folder / "auth", folder.with_name(f"{folder.name}-copy"))
    with closing(sqlite3.connect(copied / "tport.db")) as connection:
        [version] = connection.execute("PRAGMA user_version").fetchone()
    shutil.rmtree(copied)
    return bool(version)
