"""The house's plan, held against its imports: see ARCHITECTURE.md, "The house"."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(ROOT.joinpath("tport").rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]
AUTH = ROOT / "tport" / "engine" / "auth"
AUTH_SOURCES = [path for path in SOURCES if AUTH in path.parents]

# A part may import the parts of the floors below its own, and of its own floor what BESIDE allows.
FLOORS = (
    ("errors", "defaults"),
    ("types",),
    ("proto", "access", "pki", "config", "metrics"),
    ("files",),
    ("net", "storage", "audit", "logs", "garbage"),
    ("api",),
    ("auth", "proxy", "agent", "web", "client", "diag", "signals"),
    ("reload",),
    ("proxy_role",),
    ("workers",),
    ("backup",),
    ("process", "selftest", "preflight", "bundle"),
    ("commands",),
    ("cli",),
    ("program",),
)
HEIGHT = {part: height for height, floor in enumerate(FLOORS) for part in floor}
BESIDE = {"config": {"access", "proto"}}

# The same within auth, which has a floor for each of its packages and for the files beside them.
AUTH_FLOORS = (
    ("stores", "seal", "preference", "steady_clock", "one_by_one"),
    ("cluster", "seal_key"),
    ("conflicts", "refusals", "machines"),
    ("rights",),
    ("factors", "apps"),
    ("sessions",),
    ("signin",),
    ("people", "joining", "acme"),
    ("sso",),
    ("resources",),
    ("calls",),
    ("service",),
    ("server", "measured"),
)
AUTH_HEIGHT = {part: height for height, floor in enumerate(AUTH_FLOORS) for part in floor}
AUTH_UPWARD = {
    ("calls", "service"),  # a type only: the service makes its callers, who call its parts
}

PURE = {"errors", "defaults", "types", "proto", "access", "pki", "config", "metrics"}
SERVICES = {"auth", "proxy", "agent", "web", "client"}
WITH_IO = {"trio", "socket", "select", "selectors", "subprocess", "sqlite3", "httpx2", "asyncio"}
# Who may import a library that does I/O although pure, and why.
EXCEPTIONS = {
    ("config", "socket"),  # the machine's host name, the default of `nodename`
}
VAGUE = {"utils", "util", "misc", "common", "manager", "managers", "helpers", "helper"}
POSSESSIVE = re.compile(r"\)[*+?]\+|\(\?>")
LONGEST = 500  # lines; past it, look for the second noun


def part_of(path: Path) -> str:
    """Return which part of the house a file belongs to: "proxy" for tport/engine/proxy/router.py."""
    inner = path.relative_to(ROOT).with_suffix("").parts[1:]
    if inner[0] == "engine":
        inner = inner[1:]
    return inner[0]


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            if node.module in ("tport", "tport.engine", "tport.engine.auth", "tport.commands"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def parts_imported(path: Path) -> Iterator[str]:
    for module in imports(path):
        inner = module.split(".")
        if inner[0] == "tport":
            inner = inner[2:] if inner[1:2] == ["engine"] else inner[1:]
            if inner and inner[0] in HEIGHT:
                yield inner[0]


def is_root(path: Path) -> bool:
    """Tell whether a file belongs to the package itself: `tport/__init__.py` and its like."""
    return part_of(path) in ("__init__", "__main__")


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_imports_point_down_only(path: Path) -> None:
    if is_root(path):
        return
    part = part_of(path)
    assert part in HEIGHT, f"{part} has no floor in the plan: give it one here and in the document"
    upward = {
        other
        for other in parts_imported(path)
        if other != part
        and HEIGHT[other] >= HEIGHT[part]
        and other not in BESIDE.get(part, set())
        # the vocabulary of errors and numbers has no order of its own
        and not (HEIGHT[other] == 0 and HEIGHT[part] == 0)
    }

    assert not upward, f"{part} stands below or beside {', '.join(sorted(upward))}"


@pytest.mark.parametrize(
    "path", AUTH_SOURCES, ids=[str(path.relative_to(AUTH)) for path in AUTH_SOURCES]
)
def test_imports_within_auth_point_down_only(path: Path) -> None:
    part = path.relative_to(AUTH).with_suffix("").parts[0]
    found = {
        module.removeprefix("tport.engine.auth.").partition(".")[0]
        for module in imports(path)
        if module.startswith("tport.engine.auth.")
    }
    if part == "__init__":
        assert not found, "the package itself imports nothing: who needs a part imports that part"
        return
    assert part in AUTH_HEIGHT, f"{part} has no floor in auth: give it one here and in the document"
    upward = {
        other
        for other in found - {part}
        if AUTH_HEIGHT[other] >= AUTH_HEIGHT[part] and (part, other) not in AUTH_UPWARD
    }

    assert not upward, f"{part} stands below or beside {', '.join(sorted(upward))}"


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_services_never_import_one_another(path: Path) -> None:
    """They meet in process.py as arguments."""
    if part_of(path) in SERVICES:
        assert set(parts_imported(path)) & SERVICES <= {part_of(path)}


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_what_parses_or_decides_does_no_io(path: Path) -> None:
    part = part_of(path)
    if part not in PURE:
        return
    found = {module.partition(".")[0] for module in imports(path)} & WITH_IO
    found -= {module for place, module in EXCEPTIONS if place == part}

    assert not found, f"{part} is pure, and imports {', '.join(sorted(found))}"


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_a_file_has_one_noun_and_a_size_to_match(path: Path) -> None:
    assert path.stem not in VAGUE
    assert path.parent.name not in VAGUE
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_a_module_says_first_what_it_is_for(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text()))

    assert text
    assert text.splitlines()[0].strip()


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_no_expression_holds_on_to_a_group(path: Path) -> None:
    """Python before 3.11.5 matches `(...)*+` wrongly (gh-106052), and Debian 12 has 3.11.2."""
    assert not POSSESSIVE.search(path.read_text())


def test_what_is_imported_is_declared() -> None:
    """A wheel installs what pyproject.toml names: nothing that came along by chance."""
    import tomllib

    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]
    declared = {
        requirement.partition("[")[0].partition(">")[0].lower()
        for requirement in project["dependencies"]
    }
    called = {"jwt": "pyjwt", "ruamel": "ruamel.yaml", "prometheus_client": "prometheus-client"}
    found = {
        module.partition(".")[0]
        for path in SOURCES
        for module in imports(path)
        if module.partition(".")[0] not in sys.stdlib_module_names | {"tport"}
    }

    assert {called.get(module, module) for module in found} <= declared
