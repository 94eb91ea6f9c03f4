"""What other people wrote is printed so that no terminal obeys it, and programs read it as it was."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tport.cli import say_error, say_misuse
from tport.commands.audit import _print_event
from tport.commands.printing import hint, print_value, say, warn
from tport.commands.settings import Format
from tport.commands.sso import _print
from tport.engine.api.sso import TestInfo
from tport.engine.api.wire import decode_error
from tport.engine.config.resource_text import json_text, yaml_text
from tport.engine.config.yaml_dump import dumped
from tport.engine.logs import TextLines
from tport.engine.types.app import App
from tport.engine.types.resource import AppResource

HOSTILE = "\x9b2J\u202e\x7f\\\x7f\x1b[2J\u2028é😀\ud800"


def is_safe(text: str) -> bool:
    return all(c.isprintable() for c in text.replace("\n", ""))


def test_json_holds_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    print_value({"a": HOSTILE, HOSTILE: [HOSTILE]}, Format.json)

    told = capsys.readouterr().out
    assert is_safe(told)
    assert "\\u007f" in told
    assert json.loads(told) == {"a": HOSTILE, HOSTILE: [HOSTILE]}


def test_no_event_that_is_followed_holds_any_either(capsys: pytest.CaptureFixture[str]) -> None:
    _print_event({"user_agent": HOSTILE}, Format.json)

    told = capsys.readouterr().out
    assert is_safe(told)
    assert told.count("\n") == 1
    assert json.loads(told) == {"user_agent": HOSTILE}


def test_nor_do_resources_as_json() -> None:
    app = App(name="a", uri="http://localhost", description=HOSTILE)

    told = json_text([AppResource(app=app)])

    assert is_safe(told)
    assert json.loads(told)[0]["metadata"]["description"] == HOSTILE


def test_nor_do_they_as_yaml() -> None:
    app = App(name="a", uri="http://localhost", description=HOSTILE)

    assert is_safe(yaml_text([AppResource(app=app)]))


@pytest.mark.parametrize("hostile", ["\x85", "\u202e", "\u2066", "\u200b", "\x9b2J", "\x1b[2J"])
def test_yaml_holds_nothing_that_a_terminal_obeys(
    hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_value({"a": hostile, hostile: [hostile]}, Format.yaml)

    told = capsys.readouterr().out
    assert is_safe(told)
    assert YAML(typ="safe", pure=True).load(told) == {"a": hostile, hostile: [hostile]}


def test_yaml_is_readable_where_nobody_is_hostile(capsys: pytest.CaptureFixture[str]) -> None:
    print_value({"name": "Jürgen 汉"}, Format.yaml)

    assert capsys.readouterr().out == "name: Jürgen 汉\n"


@given(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.text("a \u202e\x85é\n\"'\\", min_size=80, max_size=200)
)
def test_yaml_says_the_same_whatever_has_to_be_escaped(text: str) -> None:
    told = dumped({"a": [text], text: text})

    assert is_safe(told)
    assert YAML(typ="safe", pure=True).load(told) == {"a": [text], text: text}


FORGED = b"""{"kind": "NotFound", "message": "no\\u001b]0;owned\\u0007\\u202e\\ntport: error: \\u009b2J",
    "hint": "run\\u001b[2J this\\u2028and\\u200b that", "retry_after": 0}"""


def test_an_error_is_what_its_peer_said_without_what_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """OPS-01: who answers `tport join` may be anybody."""
    say_error(decode_error(FORGED, 404))

    told = capsys.readouterr().err
    assert is_safe(told)
    assert "]0;owned" in told
    lines = told.splitlines()
    assert [line.split(" ")[1] for line in lines] == ["error:", "error:", "hint:", "hint:"]
    assert all(line.startswith("tport: ") for line in lines)


@pytest.mark.parametrize("tell", [say, hint, warn, lambda text: say_misuse(text, None)])
def test_nothing_that_is_told_holds_any(
    tell: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(f"one {HOSTILE}")

    told = capsys.readouterr().err
    assert is_safe(told)
    assert told.startswith("tport: ")
    assert "é" in told


@pytest.mark.parametrize("tell", [say, hint, warn])
def test_lines_of_our_own_stay_lines(
    tell: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    tell("one\ntwo")

    first, second = capsys.readouterr().err.splitlines()
    assert (first.replace("one", "two"), second[:7]) == (second, "tport: ")


def test_a_claim_s_name_is_no_command_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _print(
        TestInfo(
            is_done=True, claims={HOSTILE: (HOSTILE,)}, left_out={HOSTILE: "x"}, problem="none"
        )
    )

    heard = capsys.readouterr()
    assert is_safe(heard.err)
    assert is_safe(heard.out)


def test_nor_is_what_a_traceback_quotes() -> None:
    """OPS-01."""
    entry = logging.LogRecord("tport", logging.ERROR, "", 0, "it failed %s", (HOSTILE,), None)
    try:
        raise ValueError(f"{HOSTILE}\nmore")
    except ValueError:
        entry.exc_info = sys.exc_info()

    told = TextLines().format(entry)
    assert is_safe(told)
    assert "\nmore" in told
