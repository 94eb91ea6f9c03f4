"""Figures into docs/performance.md, and its plot: the medians of one or more runs of the bench.

python -m bench.docs build/bench-1.json build/bench-2.json build/bench-3.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.bars import bars_table, summary
from bench.report import Medians, markdown, over_runs, table_of
from bench.rows import ROWS
from bench.svg import draw, groups

PAGE: Final = Path("docs/performance.md")
PLOT: Final = Path("docs/images/performance.svg")
_TITLE: Final = "tport beside nginx with ssh -R, Caddy, mitmproxy, nginx and haproxy"


def written(page: str, runs: Sequence[Any]) -> str:
    """Return the page with the figures of these runs, each as `python -m bench` wrote it.

    Between `<!-- NAME -->` and `<!-- /NAME -->` stands what the runs say; all else stays.

    Raises:
        ValueError: the page has no such place.
    """
    found = over_runs([run["results"] for run in runs])
    page = _put(page, "bars", f"{summary(found)}\n\n{markdown(bars_table(found))}")
    page = _put(page, "rows", _rows(found))
    return _put(page, "versions", _versions(runs))


def _put(page: str, name: str, text: str) -> str:
    before, start, rest = page.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->\n")
    if not start or not end:
        raise ValueError(f"the page has no place for {name}")
    return f"{before}{start}\n{text}\n{end}{after}"


def _rows(found: Medians) -> str:
    parts = [
        f"{_sentence(ROWS[row].title)}\n\n{markdown(table_of(row, stacks))}"
        for row, stacks in found.items()
        if stacks
    ]
    return "\n".join(parts)


def _sentence(title: str) -> str:
    return f"{title[0].upper()}{title[1:]}:"


def _versions(runs: Sequence[Any]) -> str:
    last = runs[-1]["versions"]
    runs_said = "one run" if len(runs) == 1 else f"the medians of {len(runs)} runs"
    rows = [["what", "version"], *([name, said] for name, said in last.items())]
    table = markdown(rows).replace("---:", "---")
    return f"The figures are {runs_said}, the last of {runs[-1]['day']}.\n\n{table}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.docs")
    parser.add_argument("runs", nargs="+", type=Path, metavar="FILE")
    runs = [json.loads(path.read_text()) for path in parser.parse_args().runs]
    PAGE.write_text(written(PAGE.read_text(), runs))
    found = over_runs([run["results"] for run in runs])
    PLOT.write_text(draw(groups(found), _TITLE))


if __name__ == "__main__":
    main()
