"""What every command takes: where the cluster is, how to print. Imports nothing heavy."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class Settings:
    """The root command's options."""

    config: Path | None = None
    data_dir: Path | None = None
    quiet: bool = False
    yes: bool = False

    def words(self) -> str:
        """Return the options that name the cluster, as one types them again: `--config X `, or ""."""
        if self.config is not None:
            return f"--config {shlex.quote(str(self.config))} "
        if self.data_dir is not None:
            return f"--data-dir {shlex.quote(str(self.data_dir))} "
        return ""


class Format(StrEnum):
    """How results are printed."""

    text = "text"
    json = "json"
    yaml = "yaml"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")]
