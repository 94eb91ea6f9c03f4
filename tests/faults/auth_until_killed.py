"""An auth service, whole, that makes and deletes join tokens until it is killed.

It runs in a process forked from one that has imported all of it, so that a start costs no import. What
it does goes to a pipe, a line each, in one write: `+ID` a token is acknowledged, `?ID` its end is asked
for, `-ID` that is acknowledged, `!` it serves.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path

import trio

from tests.commands.test_backup import config
from tport.engine.api.protocol import AuthAPI
from tport.engine.process import open_process
from tport.engine.types.token import split_join_token, token_id

TASKS = 6


def run(data_dir: Path, told: Connection) -> None:
    trio.run(_serve, data_dir, told.fileno())


async def _serve(data_dir: Path, told: int) -> None:
    async with (
        open_process(config(data_dir), trio.Event()) as running,
        trio.open_nursery() as nursery,
    ):
        assert running.admin is not None
        os.write(told, b"!\n")
        for _ in range(TASKS):
            nursery.start_soon(_write, running.admin, told)


async def _write(admin: AuthAPI, told: int) -> None:
    number = 0
    while True:
        made = await admin.create_token(
            roles=("app",), ttl=86400, app_name="", app_uri="", max_uses=0
        )
        id_ = token_id(split_join_token(made.token)[0])
        os.write(told, f"+{id_}\n".encode())
        number += 1
        if number % 8 == 0:
            os.write(told, f"?{id_}\n".encode())
            await admin.delete_token(token=made.token)
            os.write(told, f"-{id_}\n".encode())
