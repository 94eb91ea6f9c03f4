"""The bytes of AuthAPI."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.api import wire
from tport.engine.api.changes import Current, SessionEnded
from tport.engine.api.protocol import CALLERS, RULES, AuthAPI
from tport.engine.defaults import MAX_CALL
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    NotSignedIn,
    TportError,
    Unavailable,
)
from tport.engine.pki.id_token import UnknownKey


def test_every_call_of_the_contract_has_bytes_and_a_row() -> None:
    """AZ-05: a method of AuthAPI without a row in CALLERS fails here."""
    methods = {
        name
        for name, value in inspect.getmembers(AuthAPI, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods - {"acting_for"} == CALLERS.keys() == wire.CALLS.keys()  # that asks nothing
    assert RULES.keys() <= CALLERS.keys()


def test_arguments_come_back_as_the_types_the_signature_says() -> None:
    body = wire.encode_request(
        "create_user", {"name": "a", "roles": ("x",), "traits": {"env": ("dev",)}}
    )
    assert wire.decode_request("create_user", body) == {
        "name": "a",
        "roles": ("x",),
        "traits": {"env": ("dev",)},
    }
    assert wire.decode_request("ping", b"") == {}


def test_an_argument_that_says_nothing_new_is_not_sent() -> None:
    """An auth one version older doesn't know it, and refuses what it doesn't know."""
    said = {"current": "a", "new": "b", "known": ""}
    body = wire.encode_request("change_password", said)

    assert json.loads(body).keys() == {"current", "new"}
    assert wire.decode_request("change_password", body) == said


def test_who_sends_an_argument_that_is_not_known_is_told_which_side_may_be_too_old() -> None:
    with pytest.raises(InvalidRequest, match="unknown field `restriction`") as refused:
        wire.decode_request("web_session", b'{"id":"x","restriction":"only mornings"}')

    assert refused.value.hint == wire.TOO_NEW


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"x","admin":true}',
        b'{"id":1}',
        b"{}",
        b"[]",
        b"null",
        b'{"id":"x"',
        b"\xff",
        b'{"id":"\xff"}',
        b"[" * 100_000,
        b'{"id":"' + b"x" * MAX_CALL + b'"}',
    ],
    ids=[str(n) for n in range(10)],
)
def test_arguments_that_the_signature_does_not_know_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        wire.decode_request("web_session", body)
    assert len(str(refused.value)) < 200


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(InvalidRequest) as refused:
        wire.decode_request(
            "sign_in", b'{"username":"a","password":["s3cret"],"remote":"","user_agent":""}'
        )
    assert "s3cret" not in str(refused.value)


@given(st.binary(max_size=300))
def test_any_bytes_are_arguments_or_an_invalid_request(body: bytes) -> None:
    for call in ("report", "offer", "put_role", "emit"):
        try:
            wire.decode_request(call, body)
        except InvalidRequest:
            pass


@pytest.mark.parametrize(
    "error",
    [
        AccessDenied("no", reason="the rule", hint="ask"),
        NotSignedIn("over"),
        NotFound("gone", hint="look"),
        AlreadyExists("there"),
        InvalidRequest("what?"),
        Unavailable("later"),
        LimitExceeded("slower", retry_after=7.5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_back_as_its_own_class_without_its_reason(error: TportError) -> None:
    body = wire.encode_error(error)
    assert b"the rule" not in body
    back = wire.decode_error(body, error.status)
    assert (type(back), str(back), back.hint) == (type(error), str(error), error.hint)
    if isinstance(error, LimitExceeded):
        assert isinstance(back, LimitExceeded)
        assert back.retry_after == error.retry_after


def test_an_error_that_a_module_made_of_another_for_itself_arrives_as_that() -> None:
    error = UnknownKey("not accepted", reason="no key fits")
    back = wire.decode_error(wire.encode_error(error), error.status)
    assert (type(back), str(back)) == (AccessDenied, "not accepted")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"kind":"SystemExit","message":"x"}', b'{"kind":"","message":""}']
)
def test_an_error_of_no_known_kind_is_unavailable(body: bytes) -> None:
    assert type(wire.decode_error(body, 500)) is Unavailable


def test_changes_tell_themselves_apart() -> None:
    for change in (Current(), SessionEnded(id="x")):
        assert wire.decode_answer("watch", wire.encode_answer(change)) == change


def test_answers_of_another_mind_are_unavailable() -> None:
    with pytest.raises(Unavailable):
        wire.decode_answer("ping", b'{"a":1}')


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=2))
def test_a_call_never_gains_arguments(extra: dict[str, Any]) -> None:
    body = json.dumps({"id": "x", **extra}).encode()
    try:
        assert wire.decode_request("sign_out", body) == {"id": "x"}
        assert extra.keys() <= {"id"}
    except InvalidRequest:
        assert extra
