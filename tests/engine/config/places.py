"""What these tests read files as: a machine of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tport.engine.config.load import parse_config
from tport.engine.config.model import Config
from tport.engine.config.resolve import Machine
from tport.engine.errors import ConfigError

MACHINE = Machine(
    env={}, home=Path("/home/alice"), cwd=Path("/cwd"), hostname="host-1", is_root=False
)


def read(text: str, machine: Machine = MACHINE) -> Config:
    return parse_config(text, name="tport.yaml", folder=Path("/etc"), machine=machine)


def complaints(text: str) -> list[str]:
    """Return every line of what is wrong, of the file and of single apps."""
    try:
        config = read(text)
    except ConfigError as error:
        return str(error).splitlines()
    return [line for app in config.app_service.faulty for line in app.complaints]


def fails(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value).splitlines()
