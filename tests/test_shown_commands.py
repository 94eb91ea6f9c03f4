"""Every command that the documents show is one: tport's own by its own parser, others as far as they can be known.

`tests/e2e/test_shown_commands.py` runs them.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tests.shown import (
    ROOT,
    Shown,
    all_shown,
    blocks,
    pages,
    parsed,
    shown,
    simple_commands,
    spellings,
)
from tests.shown_elsewhere import OF_A_RELEASE, PROGRAMS, TESTED, names_of, typed
from tport.cli import BUILT_IN

SHOWN = all_shown()
OF_A_FILE = {"--token", "--proxy"}  # what `tport configure` writes by them: tests/engine/config/
FENCES = {"yaml", "json", "python", "text", "ini"}


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
            assert each.inline, f"{each}\n{said}"
            assert re.search(r"^Missing |^Usage: | requires an argument", said), f"{each}\n{said}"


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
        [words] = tports(each)
        with pytest.raises(typer.TyperException):
            parsed(words)
    [inline] = shown("See `tport\naudit search`, and `tport.yaml`.", "x.md")
    assert (inline.text, inline.inline) == ("tport audit search", True)


def test_what_is_set_apart_is_for_a_shell_or_says_what_it_is() -> None:
    for path in pages():
        for block in blocks(path.read_text(), path.name):
            assert block.language in FENCES | {"sh"}, f"{block.page}:{block.line}"
            first = (
                simple_commands(spellings(block.text)[0])[0][0] if block.language == "sh" else ""
            )
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


def test_the_lists_of_what_runs_elsewhere_hold_what_is_shown_and_no_more() -> None:
    names = {name for each in typed() for name in names_of(each)}
    programs = {words[0] for _, words in others()}

    assert {*TESTED, *OF_A_RELEASE} - names == set()
    assert set(PROGRAMS) - programs == set()
    assert "tport" not in PROGRAMS
    assert "curl" not in PROGRAMS


@pytest.mark.parametrize(("text", "file"), TESTED.items())
def test_a_test_that_is_named_for_a_command_runs_it(text: str, file: str) -> None:
    """Each word that makes the command, and each option of its own, stands in it."""
    source = ROOT.joinpath(file).read_text()
    [words] = simple_commands(text.rpartition(": ")[2].replace("--data-dir /var/lib/tport ", ""))
    for word in words[1:]:
        option = word.partition("=")[0]
        if re.fullmatch(r"(--)?[a-z-]+", option):
            assert f'"{option}' in source or f"\ndef {option}(" in source or option in OF_A_FILE, (
                word
            )


def said() -> Iterator[tuple[str, str]]:
    """Yield each text of the program's own with `tport COMMAND ...` in it, from there, with its place; `X` for what is put in."""
    for path in sorted(ROOT.joinpath("tport").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "X" for part in node.values
                ]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node.value]
            else:
                continue
            text = "".join(map(str, parts))
            for match in re.finditer(
                r"\btport ((?:--config|--data-dir|[a-z-]+)\b[^`|…,;:()\n\"']*)", text
            ):
                if match[1].split()[0] in {*BUILT_IN, "--config", "--data-dir"}:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", match[1]


def test_no_message_or_help_names_a_command_or_option_that_there_is_not() -> None:
    """What follows in the sentence may stand in the way of the rest."""
    wrong = []
    for place, text in said():
        try:
            parsed(text.split())
        except typer.Exit:
            pass
        except typer.TyperException as problem:
            if re.match(r"No such (command|option)", problem.format_message()):
                wrong.append(f"{place}: tport {text}: {problem.format_message()}")

    assert len(list(said())) > 100
    assert wrong == []


def test_the_recipes_start_applications_and_agents_as_the_tests_of_real_ones_do() -> None:
    """Each option of theirs, and each file of an agent, stands in those tests; but for `prometheus.yml`, made there."""
    page = ROOT.joinpath("docs", "recipes.md").read_text()
    source = ROOT.joinpath("tests", "e2e", "test_real_apps.py").read_text()
    options = {
        word.partition("=")[0]
        for each, words in others()
        if each.page == "docs/recipes.md"
        for word in words
        if word.startswith("--")
    }
    examples = re.findall(r"\(\.\./examples/([\w-]+)\.yaml\)", page)

    assert len(options) > 8
    assert [option for option in options if f'"{option}' not in source] == []
    assert len(examples) == page.count("\n## ")
    assert [name for name in examples if f'start_as_shown(cluster, "{name}"' not in source] == []
