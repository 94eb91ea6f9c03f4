"""The documents keep up: no command, option, event or error is missing, and links lead somewhere."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from tport.cli import BUILT_IN
from tport.cli import app as root
from tport.engine import defaults, errors
from tport.engine.proxy.failures import _KINDS
from tport.engine.types.event import CODES, event

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.joinpath("examples").rglob("*.md")]
)

COMMANDS_TEXT = DOCS.joinpath("commands.md").read_text()
SECTION = re.compile(r"^##+ (tport\b.*)\n((?:(?!##).*\n?)*)", re.MULTILINE)
OPTION_ROW = re.compile(r"^\| ((?:`-[^`]+`(?:, )?)+) \|", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that is built in, with its path: ("tport users add", command)."""
    yield "tport", typer.main.get_command(root)
    for name, (module, _help) in BUILT_IN.items():
        app = import_module(module).app
        app._add_completion = False  # as the root command does with it
        yield from _below(f"tport {name}", typer.main.get_command(app))


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _below(f"{path} {name}", inner)


def test_every_command_and_option_is_documented_and_no_other() -> None:
    documented = {
        name: {
            option for row in OPTION_ROW.findall(text) for option in re.findall(r"`([^`]+)`", row)
        }
        for name, text in SECTION.findall(COMMANDS_TEXT)
    }
    options = {
        path: {
            word
            for parameter in command.params
            if parameter.param_type_name == "option"
            for word in (*parameter.opts, *parameter.secondary_opts)
        }
        for path, command in commands()
    }
    options["tport"] |= {"--help", "-h"}

    assert documented == options


def test_every_event_is_documented_with_its_code_and_no_other() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| `([^`]+)` \|", DOCS.joinpath("events.md").read_text(), re.MULTILINE
    )
    written = [(made.type, made.code) for made in map(event, CODES)]

    assert sorted(rows) == sorted(written)


def test_every_error_is_documented_with_its_exit_status_and_http_status() -> None:
    text = DOCS.joinpath("errors.md").read_text()
    rows = [
        (cells[1].strip(), set(re.findall(r"`(\w+)`", cells[-2])))
        for line in text.splitlines()
        if len(cells := line.replace(r"\|", "").split("|")) > 3
    ]
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TportError)
    ]

    assert len(kinds) > 10
    for kind in kinds:
        statuses = {status for status, names in rows if kind.__name__ in names}
        expected = {str(kind.exit_code), str(kind.status)}
        if kind is errors.ConfigError:
            expected = {str(kind.exit_code)}  # it ends the start: nobody asks by HTTP
        assert statuses == expected, kind.__name__


def test_every_word_that_a_refusal_has_for_programs_is_documented_and_no_other() -> None:
    """Whatever the proxy and its pages say as `error`, and the kinds of failure that agents report."""
    written = {word for _, word, _ in _KINDS.values()}
    for folder in ("proxy", "web"):
        for path in ROOT.joinpath("tport", "engine", folder).rglob("*.py"):
            written |= set(_error_words(ast.parse(path.read_text())))
    text = DOCS.joinpath("errors.md").read_text().partition("## What the proxy answers")[2]
    rows = re.findall(r"^\| \d{3} \| ([^|]+) \|", text, re.MULTILINE)
    documented = {word for row in rows for word in re.findall(r"`([\w-]+)`", row)}
    documented |= set(re.findall(r"`(signed-(?:in|out))`", text))

    assert len(written) > 20
    assert documented - {"reason", "device-token"} == written | {
        "proof-needed"
    }  # by its name, to programs


def _error_words(tree: ast.AST) -> Iterator[str]:
    """Yield each word that a page is given as `error=`, or JSON by `_json`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given: list[ast.AST] = [word.value for word in node.keywords if word.arg == "error"]
        if isinstance(node.func, ast.Attribute) and node.func.attr == "_json":
            given += node.args[1:2]
        for value in given:
            choices = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
            for choice in choices:
                match choice:
                    case ast.Constant(value=str(word)) if re.fullmatch(r"[a-z-]{2,}", word):
                        yield word


def test_every_variable_of_the_environment_is_documented_and_no_other() -> None:
    """Those that tport's own code reads, by their names in it."""
    read = re.compile(r"""(?:environ(?:\.get|\.pop)?|env\)?\.get)[(\[]"([A-Za-z_]+)\"""")
    others = re.compile(r"\"(TPORT_[A-Z_]+|VISUAL|EDITOR|XDG_[A-Z_]+)\"")
    used: set[str] = set()
    for path in ROOT.joinpath("tport").rglob("*.py"):
        text = path.read_text()
        used |= set(read.findall(text)) | set(others.findall(text))
    text = DOCS.joinpath("configuration.md").read_text()
    table = text.partition("## The environment")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)

    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == used


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in {slug(heading) for heading in HEADING.findall(target.read_text())}, (
                link
            )


def slug(heading: str) -> str:
    """Return a heading's anchor, as Git hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_document_can_be_reached_from_the_first() -> None:
    index = DOCS.joinpath("index.md").read_text()

    assert {path.name for path in DOCS.glob("*.md")} - {"index.md"} <= set(LINK.findall(index))


def test_the_architecture_names_files_that_exist_and_what_they_depend_on() -> None:
    text = ROOT.joinpath("ARCHITECTURE.md").read_text()
    sources = [str(path.relative_to(ROOT)) for path in ROOT.joinpath("tport").rglob("*.py")]
    named = set(re.findall(r"[\w/]*\w/\w+\.py", text)) | set(re.findall(r"`([\w/]+\.py)`", text))

    for name in named:
        assert ROOT.joinpath(name).exists() or any(
            source.endswith(f"/{name}") for source in sources
        ), name
    imported = "\n".join(ROOT.joinpath(source).read_text() for source in sources)
    for requirement in tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"][
        "dependencies"
    ]:
        [name] = re.findall(r"^[\w.-]+", requirement)
        module = {"PyJWT": "jwt", "ruamel.yaml": "ruamel"}.get(name, name.replace("-", "_"))
        if re.search(rf"^\s*(?:import|from) {module}\b", imported, re.MULTILINE):
            assert f"\n| {name} | " in text, f"{name} is not in the table of dependencies"


def test_every_limit_is_documented_with_its_value() -> None:
    """Each number below the heading of limits in defaults.py has a row in docs/limits.md that says it."""
    source = ROOT.joinpath("tport/engine/defaults.py").read_text()
    names = re.findall(r"^([A-Z_]+): Final", source.partition("# --- Limits")[2], re.MULTILINE)
    page = DOCS.joinpath("limits.md").read_text().splitlines()
    rows = {name: [line for line in page if line.endswith(f"| `{name}` |")] for name in names}

    assert len(names) > 40
    assert [name for name, found in rows.items() if len(found) != 1] == []
    wrong = [
        name
        for name, [row] in rows.items()
        if not any(f"| {said}" in row for said in _spellings(getattr(defaults, name)))
    ]
    assert wrong == []


def _spellings(value: float) -> list[str]:
    """Return how a page may write a number: with commas, or as KiB and MiB."""
    words = [f"{value:,.0f}" if value >= 1 else f"{value * 100:.0f} %"]
    for size, unit in ((1024, "KiB"), (1024 * 1024, "MiB")):
        if value >= size and value % size == 0:
            words.append(f"{value // size:.0f} {unit}")
    return words
