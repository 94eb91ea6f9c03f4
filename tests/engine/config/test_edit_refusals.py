"""What `tport apps check --write` cannot edit safely in a file is refused, with its line and a reason."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from tests.engine.config.edit_cases import ALL, HOST, file
from tport.engine.config.edit import with_proposal
from tport.engine.config.entry_text import put
from tport.engine.errors import ConfigError, InvalidRequest, NotFound
from tport.engine.types.probe import Proposal

IN_BRACKETS = "written in brackets, where no line can be added"
ELSEWHERE = "has an anchor or a tag, so that it may stand elsewhere too"


@pytest.mark.parametrize(
    ("proposal", "entry", "message"),
    [
        (HOST, ["- {name: a, uri: http://a}"], f"line 5: the app 'a' is {IN_BRACKETS}"),
        (
            Proposal(insecure_skip_verify=True),
            ["- {name: a, uri: http://a}"],
            f"line 5: the app 'a' is {IN_BRACKETS}",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  rewrite: {jwt_claims: roles}"],
            f"line 7: `rewrite` is {IN_BRACKETS}",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  rewrite: {headers: 'X: y'}"],
            f"line 7: `rewrite` is {IN_BRACKETS}",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  rewrite:", "    headers: ['X: y']"],
            f"line 8: `headers` is {IN_BRACKETS}",
        ),
        (
            Proposal(redirect=("x",)),
            ["- name: a", "  uri: http://a", "  rewrite:", "    redirect: []"],
            f"line 8: `redirect` is {IN_BRACKETS}",
        ),
        (HOST, ["- &a", "  name: a", "  uri: http://a"], f"line 5: the app 'a' {ELSEWHERE}"),
        (ALL, ["- name: a", "  uri: &u http://a"], f"line 6: `uri` {ELSEWHERE}"),
        (ALL, ["- name: a", "  uri: !!str http://a"], f"line 6: `uri` {ELSEWHERE}"),
        (
            HOST,
            [
                *("- name: c", "  uri: http://c", "  rewrite: &r {}"),
                *("- name: a", "  uri: http://a", "  rewrite: *r"),
            ],
            f"line 7: `rewrite` {ELSEWHERE}",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  rewrite:", "    headers:", "    - &h 'Host: x'"],
            f"line 9: the header Host {ELSEWHERE}",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  <<: {rewrite: {jwt_claims: none}}"],
            "line 5: `rewrite` comes by <<, from what may stand elsewhere too",
        ),
        (
            ALL,
            ["- name: a", "  uri: >-", "    http://a"],
            "line 6: `uri` runs over several lines",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  rewrite:", '    headers: "X:\\', '      y"'],
            "line 8: `headers` runs over several lines",
        ),
    ],
)
def test_what_cannot_be_edited_safely_is_refused_with_its_line(
    proposal: Proposal, entry: Sequence[str], message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        with_proposal(file(entry), "a", proposal)

    assert str(caught.value).startswith(message)
    assert "by hand" in caught.value.hint


def test_a_whole_section_that_is_shared_is_refused() -> None:
    text = "app_service: &s\n  apps: &x\n  - name: a\n    uri: http://a\n"

    with pytest.raises(InvalidRequest, match=f"^line 1: `app_service` {ELSEWHERE}"):
        with_proposal(text, "a", HOST)
    with pytest.raises(InvalidRequest, match=f"^line 2: `apps` {ELSEWHERE}"):
        with_proposal(text.replace(" &s", ""), "a", HOST)


def test_settings_that_the_app_cannot_have_are_refused_with_the_complaint() -> None:
    text = file(["- name: a", "  uri: https://a", "  tls: {server_name: x}"])

    with pytest.raises(InvalidRequest, match=r"tls: the uri is http://, which has no TLS"):
        with_proposal(text, "a", Proposal(uri="http://a"))
    with pytest.raises(InvalidRequest, match=r"tport.yaml:6:10: .*uri: 'a b' is no URI"):
        with_proposal(text, "a", Proposal(uri="a b"))
    # A key without its colon: what is put behind it becomes part of it.
    with pytest.raises(
        InvalidRequest, match=r"tport.yaml:7:15: .*jwt_claims none: unknown setting"
    ):
        with_proposal(
            file(["- name: a", "  uri: http://a", "  rewrite: {jwt_claims}"]),
            "a",
            Proposal(jwt_claims="none"),
        )


def test_there_must_be_a_sound_file_with_a_sound_app_of_this_name() -> None:
    with pytest.raises(NotFound, match=r"'c' is not in app_service\.apps"):
        with_proposal(file(["- name: a", "  uri: http://a"]), "c", HOST)
    with pytest.raises(NotFound):
        with_proposal("", "a", HOST)
    with pytest.raises(InvalidRequest, match=r"uri: is missing") as caught:
        with_proposal(file(["- name: a"]), "a", HOST)
    assert caught.value.hint == "mend this first"
    with pytest.raises(ConfigError, match=r"tport.yaml:1:1: x: unknown setting"):
        with_proposal("x: y", "a", HOST)


@pytest.mark.parametrize("wrong", [replace(HOST, host=""), replace(HOST, redirect=("x",))])
def test_what_the_new_text_does_not_bear_out_is_never_returned(
    monkeypatch: pytest.MonkeyPatch, wrong: Proposal
) -> None:
    """Whatever becomes of the text: here something else is put in."""
    monkeypatch.setattr(
        "tport.engine.config.edit.put", lambda text, entry, new: put(text, entry, wrong)
    )

    with pytest.raises(InvalidRequest, match="line 5: the app 'a' is written in a way"):
        with_proposal(file(["- name: a", "  uri: http://a"]), "a", HOST)


@pytest.mark.parametrize(
    "harm", ["  debug_app: yes\n", "tport: {nodename: x}\n", "  - name: c\n    uri: http://c\n"]
)
def test_a_change_of_anything_else_is_never_returned(
    monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr("tport.engine.config.edit.put", lambda *args: put(*args) + harm)

    with pytest.raises(InvalidRequest, match="line 5: the app 'a' is written in a way"):
        with_proposal(file(["- name: a", "  uri: http://a"]), "a", HOST)
