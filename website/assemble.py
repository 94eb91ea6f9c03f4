"""Gather what the site is made of: the documents where they stand, and the files that they link to.

    python -m website.assemble OUTPUT

On the site there is no source code: a link into it becomes its words alone. A page in a folder of its own
has its pictures and examples beside it, as in the repository.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")

_SHOWN: Final = ("docs", "examples")  # folders that are on the site, whole
_UNSHOWN: Final = {".py", ".pyc"}
_LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def pages() -> Iterator[PurePosixPath]:
    """Yield every page's path, relative to the repository."""
    for name in PAGES:
        yield PurePosixPath(name)
    for folder in _SHOWN:
        for file in sorted(ROOT.joinpath(folder).rglob("*.md")):
            yield PurePosixPath(file.relative_to(ROOT).as_posix())


def on_the_site(text: str, page: PurePosixPath) -> str:
    """Return a page's text with its links as they lead on the site."""

    def linked(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        path = target.partition("#")[0]
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        leads_to = _resolved(page.parent / path)
        return match[0] if _is_shown(leads_to) else f"{mark}{words}" if not mark else words

    return _LINK.sub(linked, text)


def assemble(out: Path) -> None:
    """Write pages and files into `out`, which is made anew."""
    shutil.rmtree(out, ignore_errors=True)
    for folder in _SHOWN:
        for file in sorted(ROOT.joinpath(folder).rglob("*")):
            path = PurePosixPath(file.relative_to(ROOT).as_posix())
            if file.is_file() and _is_shown(path) and file.suffix != ".md":
                out.joinpath(path.parent).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, out / path)
    for page in pages():
        out.joinpath(page.parent).mkdir(parents=True, exist_ok=True)
        out.joinpath(page).write_text(on_the_site(ROOT.joinpath(page).read_text(), page))
    out.joinpath("index.html").write_text(_HOME)
    shutil.copyfile(Path(__file__).with_name("site.css"), out / "site.css")


_HOME: Final = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>tport</title>
<meta http-equiv="refresh" content="0; url=docs/index.html"></head>
<body><a href="docs/index.html">tport</a></body></html>
"""


def _is_shown(path: PurePosixPath) -> bool:
    if str(path) in PAGES:
        return True
    return (
        path.parts[0] in _SHOWN and path.suffix not in _UNSHOWN and "__pycache__" not in path.parts
    )


def _resolved(path: PurePosixPath) -> PurePosixPath:
    """Return a path without the `..` in it."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


if __name__ == "__main__":
    assemble(Path(sys.argv[1]))
