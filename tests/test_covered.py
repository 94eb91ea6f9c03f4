"""What `make coverage` says of a package is what was measured of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests import covered
from tests.covered import PACKAGES, by_package

ROOT: Final = Path(__file__).parent.parent


def report(**files: Mapping[str, object]) -> bytes:
    rest = {f"tport/engine/{package}/rest.py": measured(10, 10) for package in PACKAGES}
    return json.dumps({"files": {**rest, **files}, "meta": {}}).encode()


def measured(branches: int, covered: int, *missed: tuple[int, int]) -> Mapping[str, object]:
    summary = {"num_branches": branches, "covered_branches": covered, "percent_covered": 1.0}
    return {"summary": summary, "missing_branches": list(missed)}


def test_branches_of_a_package_are_summed_over_its_files_however_deep() -> None:
    found = by_package(
        report(
            **{
                "tport/engine/auth/signin/login.py": measured(10, 5, (7, 9), (8, -1)),
                "tport/engine/net/http1.py": measured(100, 0),
            }
        )
    )

    assert (found["auth"].branches, found["auth"].covered) == (20, 15)
    assert found["auth"].missed == {"tport/engine/auth/signin/login.py": ["7->9", "8->exit"]}
    assert found["proxy"].percent == 100


def test_a_package_of_which_nothing_was_measured_is_an_error_and_not_100_percent() -> None:
    with pytest.raises(ValueError, match="nothing was measured of access, agent"):
        by_package(json.dumps({"files": {}}).encode())


@pytest.mark.parametrize(("covered_branches", "status"), [(81, 0), (80, 1)])
def test_less_than_the_bar_in_one_package_fails(
    covered_branches: int,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of 95 branches, 10 of which are reached elsewhere: 90.25 are needed."""
    file = tmp_path / "report.json"
    name = "tport/engine/proxy/apps.py"
    file.write_bytes(report(**{name: measured(85, covered_branches, (1, 2))}))
    monkeypatch.setattr("sys.argv", ["covered", str(file)])

    assert covered.main() == status
    said = capsys.readouterr()
    assert f"{name}: 1->2" in said.out
    assert ("engine/proxy is below 95 %" in said.err) == bool(status)


@pytest.mark.parametrize(
    ("pytest_status", "bar_status", "status"), [(0, 0, 0), (1, 0, 2), (0, 1, 2), (1, 1, 2)]
)
def test_make_coverage_reports_though_a_test_failed_and_fails_for_either(
    pytest_status: int, bar_status: int, status: int, tmp_path: Path
) -> None:
    """Stand-ins for coverage.py and Python say which step was taken; make's own status is 0 or 2."""
    stand_in = f"""#!/bin/sh
echo "$(basename $0) $1"
case "$(basename $0) $1" in
"coverage run") exit {pytest_status} ;;
"python -m") exit {bar_status} ;;
esac
"""
    for name in ("coverage", "python"):
        (tmp_path / name).write_text(stand_in)
        (tmp_path / name).chmod(0o700)

    # In a directory of its own, since the recipe begins with deleting what was measured before.
    where = ("-C", tmp_path, "-f", ROOT / "Makefile", f"BIN={tmp_path}", "--no-print-directory")
    done = subprocess.run(
        ["make", *where, "-o", ".venv/tools", "-o", "test-deps", "coverage"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    steps = ["coverage run", "coverage combine", "coverage json", "python -m"]
    assert (done.returncode, done.stdout.splitlines()) == (status, steps), done.stderr
