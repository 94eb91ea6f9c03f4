"""`tport selftest`: its command line. What it measures is tried for real in tests/e2e."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.engine.agent.test_state import state
from tport.cli import run
from tport.commands.selftest import _own_host_id, parse_size, print_report, size_text
from tport.commands.settings import Format, Settings
from tport.engine.agent.state import FILE, save_state
from tport.engine.errors import InvalidRequest
from tport.engine.selftest import report
from tport.engine.selftest.failure import Failure
from tport.engine.selftest.figures import timed
from tport.engine.selftest.report import Report


@pytest.mark.parametrize(
    ("text", "size", "said"),
    [
        ("1GiB", 2**30, "1 GiB"),
        ("128mib", 128 * 2**20, "128 MiB"),
        ("1500 KiB", 1500 * 2**10, "1500 KiB"),
        ("100MB", 10**8, "100000000 bytes"),
        ("17", 17, "17 bytes"),
        ("1b", 1, "1 byte"),
    ],
)
def test_a_size_is_read_as_people_write_it_and_told_exactly(
    text: str, size: int, said: str
) -> None:
    assert parse_size(text) == size
    assert size_text(size) == said


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5GiB", "1TiB", "GiB", "2000GiB", "1 G", "١MiB"])
def test_what_is_no_size_is_said(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["selftest", "grafana", "--size=1MiB"], "--size: nothing large is sent"),
        (["selftest", "--roles=access"], "--roles: "),
        (["selftest", "--direct"], "--direct: "),
        (["selftest", "--size=huge"], "--size: 'huge' is no size"),
        (["selftest", "--rounds=0"], "--rounds"),
    ],
)
def test_an_option_that_means_nothing_there_is_status_2(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(args) == 2

    heard = capsys.readouterr()
    assert heard.out == ""
    assert said in heard.err


FOUND = Report(
    app="grafana",
    proxy="tport.test:3080",
    size=None,
    figures=(
        report.SIGN_IN,
        *report.broken((report.STATUS, *report.REQUESTS), "failed at the application: refused"),
        timed(report.FIRST_BYTE, [0.00123456], [0.0456]),
    ),
    failure=Failure(hop="app", error="unreachable", cause="refused", request_id="cafe"),
    advice=("Start \x1b[2Jit.",),
)


def test_a_script_gets_each_figure_by_name_and_what_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_report(FOUND, Format.json)

    heard = capsys.readouterr()
    value = json.loads(heard.out)
    assert heard.err == ""
    assert (value["ok"], value["app"], value["size"]) == (False, "grafana", None)
    assert value["failure"]["hop"] == "app"
    assert value["figures"]["status"]["ok"] is False
    assert value["figures"]["request_p99"]["ok"] is None
    assert value["figures"]["first_byte"] == {
        "what": "first byte, median",
        "unit": "ms",
        "direct": 1.235,
        "through": 45.6,
        "added": 44.365,
        "samples": 1,
        "expected": "each answered",
        "ok": True,
        "note": "",
    }


def test_a_person_gets_a_table_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(FOUND, Format.text)

    heard = capsys.readouterr()
    rows = heard.out.splitlines()
    assert rows[0].split() == ["FIGURE", "DIRECT", "TPORT", "ADDED", "RESULT"]
    assert rows[2].endswith("NOT OK: failed at the application: refused")
    assert rows[3].endswith("not measured")
    assert re.split(" {2,}", rows[5]) == [
        "first byte, median",
        "1.23 ms",
        "45.6 ms",
        "44.4 ms",
        "ok: each answered",
    ]
    assert (
        "tport: hint: Start \N{REPLACEMENT CHARACTER}[2Jit." in heard.err
    )  # others' words obey nothing
    assert "request cafe" in heard.err
    assert "tport: 1 of 5 not as it must be" in heard.err


def test_the_agent_of_the_cluster_s_own_folder_is_known_to_be_here(tmp_path: Path) -> None:
    (tmp_path / "auth").mkdir()
    (tmp_path / "auth" / "admin.pem").touch()
    (tmp_path / "agent").mkdir()
    settings = Settings(data_dir=tmp_path)
    assert _own_host_id(settings) == ""

    save_state(tmp_path / "agent", state("a7"))
    assert _own_host_id(settings) == "a7"

    (tmp_path / "agent" / FILE).write_text("{")
    assert _own_host_id(settings) == ""
