"""Every command that the documents show is one: tport's own by its own parser, others as far as they can be known.

`tests/e2e/test_shown_commands.py` runs them.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.shown import ROOT, Shown, all_shown, blocks, pages, shown, simple_commands, spellings
from tport.cli import BUILT_IN
from tport.cli import app as root

SHOWN = all_shown()
FENCES = {"yaml", "json", "python", "text", "ini"}


def parsed(words: list[str]) -> Any:
    """Return the context that tport's own parser makes of a command line, and run nothing of it.

    Raises:
        typer.TyperException: there is no such command or option, or an argument is missing or wrong.
    """
    command: Any = typer.main.get_command(root)
    context = command.make_context("tport", list(words))
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        if rest[:1] == ["hello"]:  # examples/plugin/ adds it
            name, command, rest = "hello", _plugin(), rest[1:]
        else:
            name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context


def _plugin() -> Any:
    names: dict[str, Any] = {}
    exec(ROOT.joinpath("examples", "plugin", "tport_hello.py").read_text(), names)
    return typer.main.get_command(names["app"])


def tports(each: Shown) -> Iterator[list[str]]:
    """Yield the command lines of tport's in what is shown, without the word `tport`."""
    for spelling in spellings(each.text):
        for words in simple_commands(spelling):
            if words[0] == "tport" or re.fullmatch(r"\./tport-\S+", words[0]):
                yield words[1:]


@pytest.mark.parametrize("each", SHOWN, ids=str)
def test_every_command_of_tports_that_is_shown_is_one(each: Shown) -> None:
    """In a sentence a command may be named without its arguments; what is there must be right."""
    for words in tports(each):
        try:
            parsed(words)
        except typer.Exit:
            pass  # --help
        except typer.TyperException as problem:
            said = problem.format_message()
            assert each.inline and re.search(r"^Missing |^Usage: | requires an argument", said), f"{each}\n{said}"


def test_a_command_that_there_is_not_would_be_found() -> None:
    for text in (
        "tport audit search --type=user.login",
        "tport users ls --role=access",
        "tport users add",
        "tport status extra",
        "tport status --format=table",
        "sudo tport user ls",
    ):
        [each] = shown(f"Text.\n\n    {text}\n", "x.md")
        with pytest.raises(typer.TyperException):
            for words in tports(each):
                parsed(words)
    [inline] = shown("See `tport\naudit search`, and `tport.yaml`.", "x.md")
    assert (inline.text, inline.inline) == ("tport audit search", True)


def test_what_is_set_apart_is_for_a_shell_or_says_what_it_is() -> None:
    for path in pages():
        for block in blocks(path.read_text(), path.name):
            assert block.language in FENCES | {"sh"}, f"{block.page}:{block.line}"
            first = simple_commands(spellings(block.text)[0])[0][0] if block.language == "sh" else ""
            assert re.fullmatch(r"[\w./<>-]*", first), f"{block.page}:{block.line}: {first}"


def test_a_shell_takes_every_block() -> None:
    """`bash -n` reads and runs nothing."""
    for each in SHOWN:
        for spelling in () if each.inline else spellings(each.text):
            done = subprocess.run(
                ["bash", "-n", "-c", spelling], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{each}\n{done.stderr}"


def others() -> Iterator[tuple[Shown, list[str]]]:
    for each in SHOWN:
        for spelling in spellings(each.text):
            for words in simple_commands(spelling):
                if words[0] != "tport":
                    yield each, words


def test_every_target_of_make_that_is_shown_is_in_the_makefile() -> None:
    makefile = ROOT.joinpath("Makefile").read_text()
    sentences = [
        (path.name, text)
        for path in pages()
        for text in re.findall(r"`make ([^`<]+?)(?: SIGN=[^`]*)?`", path.read_text())
    ]
    lines = [(str(each), words[1:]) for each, words in others() if words[0] == "make"]
    lines += [(page, text.split()) for page, text in sentences]
    assert len(lines) > 20
    for place, words in lines:
        for word in words:
            name, is_setting, _ = word.partition("=")
            if is_setting:
                assert re.search(rf"^{name} \?=|\$\({name}\)|\b{name}=", makefile, re.MULTILINE), (
                    place,
                    word,
                )
            elif re.match(r"[a-z]", name):
                assert re.search(rf"^{name}:", makefile, re.MULTILINE), (place, word)


def test_every_file_of_the_repository_that_a_command_names_is_there() -> None:
    tops = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"build", "dist", ".venv"}
    named = [
        (each, word)
        for each, words in others()
        for word in words
        if Path(word).parts[:1] and Path(word).parts[0] in tops and "/" in word
    ]

    assert len(named) > 3
    assert [str(each) for each, word in named if not ROOT.joinpath(word).exists()] == []


def test_every_built_in_command_is_shown_somewhere() -> None:
    used = {words[0] for each in SHOWN for words in tports(each) if words}

    assert set(BUILT_IN) - used == set()
