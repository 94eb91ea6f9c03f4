"""The commands that the documents show: found, and cut into words as a shell would.

How a document shows one: an indented block is for a shell, and so is what stands as `tport ...` within a sentence. What is
not for a shell stands in a fence that says what it is. In both, words in capitals and `<words in brackets>` are put in by who
reads; `[...]` may be left out, `|` in it parts alternatives, and `…` is more of the same.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from tport.cli import app as root

ROOT: Final = Path(__file__).parents[1]

_FENCE: Final = re.compile(r"^(\s*)```(\w*)")
_INLINE: Final = re.compile(r"`((?:sudo )?tport(?:\s[^`]*)?)`")
_HEREDOC: Final = re.compile(r"<<-?\s*'?(\w+)'?")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=")
_TO_FILL: Final = re.compile(r"(?<!<)<([a-z][^<>\n]*)>")
_CHOICE: Final = re.compile(r"\[([^\[\]]+)\]")
_BEFORE_A_PROGRAM: Final = {"sudo", "exec"}


@dataclass(frozen=True)
class Block:
    """Lines that a page sets apart. `language` is "sh" for an indented block, else what its fence says."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Shown:
    """A command, as it stands in a page; `inline`: within a sentence."""

    page: str
    line: int
    text: str
    inline: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def pages() -> list[Path]:
    """Return what people read, but for CHANGELOG.md, which says what was."""
    at_top = [path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"]
    return sorted([*at_top, *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])


def blocks(text: str, page: str) -> Iterator[Block]:
    """Yield what a page sets apart, by a fence or by four spaces after an empty line."""
    for block, _ in _cut(text, page):
        if block is not None:
            yield block


def shown(text: str, page: str) -> Iterator[Shown]:
    """Yield every command of a page, in order: each statement of its blocks, and what stands in sentences."""
    for block, words in _cut(text, page):
        if block is None:
            for match in _INLINE.finditer(words.text):
                line = words.line + words.text.count("\n", 0, match.start())
                yield Shown(page, line, " ".join(match[1].split()), inline=True)
        elif block.language == "sh":
            for line, statement in _statements(block):
                yield Shown(page, line, statement)


def all_shown() -> list[Shown]:
    return [
        each
        for path in pages()
        for each in shown(path.read_text("utf-8"), str(path.relative_to(ROOT)))
    ]


def spellings(text: str) -> list[str]:
    """Return what a command with `[...]` and `…` in it may be typed as; itself, when it has none.

    Only tport's commands are shown so: brackets mean something else to a shell.
    """
    text = _TO_FILL.sub(lambda match: re.sub(r"\W+", "-", match[1]), text)
    if not text.removeprefix("sudo ").startswith("tport"):
        return [text]
    text = re.sub(r" ?…$|(?<=\])…", "", text).replace("COMMAND", "status")
    if "[" not in text:
        return [text]
    parts = _CHOICE.split(text)
    choices = [
        ["", *part.split(" | ")] if number % 2 else [part] for number, part in enumerate(parts)
    ]
    return [" ".join("".join(each).split()) for each in itertools.product(*choices)]


def simple_commands(statement: str) -> list[list[str]]:
    """Return the words of each program that a statement starts, without redirections, variables and sudo.

    Raises:
        ValueError: a quote isn't closed.
    """
    inner = re.findall(r"\$\(([^()]*)\)", statement)
    text = re.sub(r"\$\([^()]*\)", "SUBSTITUTED", statement)
    if heredoc := _HEREDOC.search(text):
        text = text[: heredoc.start()] + text[heredoc.end() :].partition("\n")[0]
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = "#"
    found: list[list[str]] = [[]]
    is_target = False
    for word in lexer:
        if set(word) <= set("<>"):
            is_target = True
        elif set(word) <= set("();<>|&\n"):
            found.append([])
        elif is_target:
            is_target = False
        elif not found[-1] and (_ASSIGNMENT.match(word) or word in _BEFORE_A_PROGRAM):
            continue
        else:
            found[-1].append(word)
    started = [words[words.index("tport") :] for words in found if words[:1] == ["setpriv"]]
    others = [words for each in inner for words in simple_commands(each)]
    return [words for words in found if words] + started + others


def parsed(words: list[str]) -> Any:
    """Return the context that tport's own parser makes of a command line, and run nothing of it.

    Raises:
        typer.TyperException: there is no such command or option, or an argument is missing or wrong.
    """
    command: Any = typer.main.get_command(root)
    context = command.make_context("tport", list(words))
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        if not rest:
            context.fail("Missing command.")
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


@dataclass(frozen=True)
class _Words:
    line: int
    text: str


def _cut(text: str, page: str) -> Iterator[tuple[Block | None, _Words]]:
    """Yield a page's blocks, and what stands between them with no block."""
    between: list[str] = []
    lines = text.split("\n")
    at = begin = 0
    while at < len(lines):
        start = at
        if fence := _FENCE.match(lines[at]):
            at += 1
            while at < len(lines) and lines[at].strip() != "```":
                at += 1
            block = Block(page, start + 1, fence[2], "\n".join(lines[start + 1 : at]))
            at += 1
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                at += 1
            inside = lines[start:at]
            depth = min(len(line) - len(line.lstrip()) for line in inside if line.strip())
            block = Block(page, start + 1, "sh", "\n".join(line[depth:] for line in inside))
        else:
            between.append(lines[at])
            at += 1
            continue
        yield None, _Words(begin + 1, "\n".join(between))
        yield block, _Words(0, "")
        between, begin = [], at
    yield None, _Words(begin + 1, "\n".join(between))


def _statements(block: Block) -> Iterator[tuple[int, str]]:
    """Yield what a shell takes at a time, with its line: continued lines together, and here-documents whole."""
    lines = block.text.split("\n")
    at = 0
    while at < len(lines):
        start = at
        while lines[at].endswith("\\"):
            at += 1
        if heredoc := _HEREDOC.search(lines[at]):
            at = lines.index(heredoc[1], at)
        at += 1
        statement = "\n".join(lines[start:at])
        if statement.strip():
            yield block.line + start, statement.strip()
