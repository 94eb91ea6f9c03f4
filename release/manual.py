"""Manual pages and completions, from the commands as they are: `tport(1)`, `tport-users(1)`, ..."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Final, Literal

import typer

from tport import __version__
from tport.cli import BUILT_IN, app

Shell = Literal["bash", "zsh", "fish"]
SHELLS: Final[tuple[Shell, ...]] = ("bash", "zsh", "fish")


def completion(shell: Shell) -> str:
    """Return the script by which a shell completes commands and options."""
    surroundings = os.environ | {"_TPORT_COMPLETE": f"source_{shell}"}
    command = (sys.executable, "-m", "tport")
    return subprocess.run(
        command, env=surroundings, capture_output=True, text=True, check=True
    ).stdout


def manual_pages() -> Iterator[tuple[str, str]]:
    """Yield the name of each page's file, and its text in man(7)'s language."""
    root: Any = typer.main.get_command(app)
    yield (
        "tport.1",
        _page("tport", root, [(f"tport-{name}", BUILT_IN[name][1]) for name in BUILT_IN]),
    )
    for name, (module, _) in BUILT_IN.items():
        inner = import_module(module).app
        inner._add_completion = False  # as the root command does with it
        yield f"tport-{name}.1", _page(f"tport {name}", typer.main.get_command(inner), [])


def _page(path: str, command: Any, others: Sequence[tuple[str, str]]) -> str:
    made = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    title = path.replace(" ", "-")
    lines = [
        f'.TH "{title.upper()}" 1 "{made:%Y-%m-%d}" "tport {__version__}" "tport"',
        *(".SH NAME", f"{_plain(title)} \\- {_plain(_first(command))}"),
        ".SH SYNOPSIS",
        *_synopsis(path, command),
        *(".SH DESCRIPTION", *_paragraphs(command.help or "")),
        *_options(command),
    ]
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        if not getattr(inner, "hidden", False):
            below = f"{path} {name}"
            lines += [f'.SH "{_plain(below).upper()}"', *_synopsis(below, inner), ".PP"]
            lines += [*_paragraphs(inner.help or ""), *_options(inner, heading=False)]
    if others:
        lines.append(".SH COMMANDS")
        for name, what in others:
            lines += [".TP", f"\\fB{_plain(name)}\\fR(1)", _plain(what)]
    lines += [".SH FILES", ".TP", "/etc/tport.yaml", "What the services of this machine are."]
    if not others:
        lines += [".SH SEE ALSO", "\\fBtport\\fR(1)"]
    return "\n".join(lines) + "\n"


def _synopsis(path: str, command: Any) -> list[str]:
    words = [f"\\fB{_plain(path)}\\fR"]
    if any(parameter.param_type_name == "option" for parameter in command.params):
        words.append("[\\fIOPTIONS\\fR]")
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = f"\\fI{_plain(parameter.name.upper())}\\fR"
            words.append(name if parameter.required else f"[{name}]")
    if getattr(command, "commands", None):
        words.append("\\fICOMMAND\\fR ...")
    return [" ".join(words)]


def _options(command: Any, *, heading: bool = True) -> Iterator[str]:
    options = [
        each for each in command.params if each.param_type_name == "option" and not each.hidden
    ]
    if options and heading:
        yield ".SH OPTIONS"
    for option in options:
        names = ", ".join(
            f"\\fB{_plain(name)}\\fR" for name in (*option.opts, *option.secondary_opts)
        )
        yield ".TP"
        choices = getattr(option.type, "choices", None)
        value = "|".join(map(str, choices)) if choices else option.type.name.upper()
        yield names if option.is_flag else f"{names} \\fI{_plain(value)}\\fR"
        yield _plain(option.help or "")


def _first(command: Any) -> str:
    """Return the first sentence of a command's help, without its full stop."""
    text = " ".join((command.help or "").split())
    return re.split(r"\.(?:\s|$)", text, maxsplit=1)[0]


def _paragraphs(text: str) -> Iterator[str]:
    """Yield help as paragraphs; one behind click's mark for that keeps its lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield from (".nf", *(_plain(line) for line in paragraph.splitlines()[1:]), ".fi")
        else:
            yield _plain(" ".join(paragraph.split()))


def _plain(text: str) -> str:
    """Return text that troff takes for nothing but text."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
