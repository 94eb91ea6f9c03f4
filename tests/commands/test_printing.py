"""What other people wrote is printed so that no terminal obeys it, and programs read it as it was."""

from __future__ import annotations

import json

import pytest

from tport.commands.audit import _print_event
from tport.commands.printing import print_value
from tport.commands.settings import Format
from tport.engine.config.resource_text import json_text
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
