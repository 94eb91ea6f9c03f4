"""The bytes of AuthAPI: every call's request and answer, derived from the Protocol's signatures.

    POST /v1/<call>     body: the arguments as a JSON object; answer: the result as JSON
    tport-acting-for: <a session cookie's value>     a header: the person for whom a proxy calls
    POST /v1/watch      body: {}; answer: one Change a line, until either side ends it
    anything else wrong: status of the error, body {"kind", "message", "hint", "retry_after"}

Arguments are strict: a field that the signature doesn't name is refused, so that a caller never
believes in a restriction the far end knows nothing of. Inside the vocabulary's structs unknown
fields are ignored, as `types` says. Errors travel without `reason`, which is the audit log's.

Versions beside one another. What a minor version may change here, so that the ones next to it go on:

- a call more: who asks an auth that doesn't know it hears NotFound, and does without;
- an argument more, with a default that means "as before": while it has that, it isn't sent;
- a field of a struct more, with a default; a field that goes is sent for one minor version more;
- a change more in `watch`, an error or a value of a Literal more: read in one minor version, sent from
  the next on. A change that isn't understood ends the watch, rather than leave somebody in.

`tests/test_neighbours.py` holds each call to what the version before wrote and read.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Mapping
from typing import Any, Final, get_type_hints

import msgspec

from tport.engine import errors
from tport.engine.api.changes import Change
from tport.engine.api.protocol import CALLERS, AuthAPI
from tport.engine.defaults import MAX_CALL
from tport.engine.errors import (
    AccessDenied,
    InvalidRequest,
    LimitExceeded,
    TportError,
    Unavailable,
)

PREFIX: Final = "/v1/"
ACTING_FOR: Final = b"tport-acting-for"
WATCH: Final = "watch"  # the one call whose answer is a stream
MAX_ANSWER: Final = 16 << 20  # bytes of an answer, which a trusted side makes
TOO_NEW: Final = "is the caller of a newer version of tport? upgrade auth first"
MAX_DEPTH_ERROR: Final = "the request is nested too deep"

# Calls that change nothing, so that asking twice is as good as once.
_READS: Final = frozenset(
    {
        "ping",
        "authorities",
        "web_session",
        "invite",
        "factor_policy",
        "own_account",
        "check_fresh_proof",
        "app_session",
        "sign_session",
        "list_tokens",
        "list_users",
        "list_roles",
        "join_answer",
        "find_join",
        "list_requests",
        "list_locks",
        "get_resources",
        "list_sessions",
        "list_own_sessions",
        "own_device_tokens",
        "list_device_tokens",
        "own_requests",
        "explain_own",
        "explain_access",
        "explain_request",
        "list_app_servers",
        "search_events",
        "follow_events",
        "check_events",
        "status",
        "list_apps",
        "list_certificates",
        "report_certificates",  # likewise, as `report`
        "list_role_infos",
        "preview_role",
        "list_settings",
        "get_preference",
        "preview_preference",
        "own_apps",
        "own_app_icon",
        "own_rights",
        "check_right",
        "sign_in_choices",
        "sso_test",
        "provider_logout",
        "acme_account",
        "acme_pair",
        "acme_holds",
        "acme_all_hold",
        "report",  # replaces what the proxy said before: the same twice is the same
    }
)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call: its arguments as a struct, its answer's type, whether it may be repeated."""

    name: str
    request: type[msgspec.Struct]
    answer: Any
    is_read: bool


class _Error(msgspec.Struct, frozen=True):
    """An error on its way."""

    kind: str
    message: str
    hint: str = ""
    retry_after: float = 0.0


def _kinds() -> Mapping[str, type[TportError]]:
    found = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, TportError) and value is not TportError
    }
    return types.MappingProxyType(found)


_KINDS: Final = _kinds()


def _derive(name: str) -> Call:
    method = getattr(AuthAPI, name)
    hints = get_type_hints(method, vars(sys.modules[method.__module__]))
    fields = [
        (name, hints[name], msgspec.NODEFAULT if one.default is one.empty else one.default)
        for name, one in inspect.signature(method).parameters.items()
        if name != "self"
    ]
    request = msgspec.defstruct(
        f"{name}_request",
        fields,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        omit_defaults=True,  # an auth one version older knows nothing of an argument that is new
    )
    answer = Change if name == WATCH else hints["return"]
    return Call(name=name, request=request, answer=answer, is_read=name in _READS)


CALLS: Final[Mapping[str, Call]] = {name: _derive(name) for name in CALLERS}

_encoder = msgspec.json.Encoder()
_requests = {name: msgspec.json.Decoder(call.request) for name, call in CALLS.items()}
_answers = {name: msgspec.json.Decoder(call.answer) for name, call in CALLS.items()}
_errors = msgspec.json.Decoder(_Error)


def encode_request(call: str, arguments: Mapping[str, object]) -> bytes:
    return _encoder.encode(CALLS[call].request(**arguments))


def decode_request(call: str, body: bytes, max_body: int = MAX_CALL) -> dict[str, Any]:
    """Return the arguments of a call that CALLS knows; its request may have `max_body` bytes.

    Raises:
        InvalidRequest: it isn't what the signature says. The message never holds a value.
    """
    if len(body) > max_body:
        raise InvalidRequest(f"{call}: the request is over {max_body} bytes")
    try:
        request = _requests[call].decode(body or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        hint = TOO_NEW if "contains unknown field" in str(problem) else ""
        raise InvalidRequest(f"{call}: {problem}", hint=hint) from None
    except RecursionError:
        raise InvalidRequest(f"{call}: {MAX_DEPTH_ERROR}") from None
    return {name: getattr(request, name) for name in request.__struct_fields__}


def encode_answer(answer: object) -> bytes:
    return _encoder.encode(answer)


def decode_answer(call: str, body: bytes) -> Any:
    """Return the answer of a call; of `watch`, the change that one line holds.

    Raises:
        Unavailable: it is no such answer; the two programs are of different minds.
    """
    try:
        return _answers[call].decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise Unavailable(
            f"auth's answer to {call} can't be read: {problem}",
            hint="the versions of tport on the two machines may be too far apart",
        ) from None


def encode_error(error: TportError) -> bytes:
    """Return the body for an error: what its receiver may read, never `reason`."""
    retry_after = error.retry_after if isinstance(error, LimitExceeded) else 0.0
    # What a module made of one of them for itself travels as that one.
    known = (each for each in type(error).__mro__ if _KINDS.get(each.__name__) is each)
    kind = next((each.__name__ for each in known), "")
    return _encoder.encode(_Error(kind, str(error), error.hint, retry_after))


def decode_error(body: bytes, status: int) -> TportError:
    """Rebuild an error. What can't be understood is Unavailable: deny, and say so."""
    try:
        error = _errors.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Unavailable(f"auth answered {status} with nothing that tport understands")
    kind = _KINDS.get(error.kind)
    if kind is None:
        return Unavailable(error.message, hint=error.hint)
    if issubclass(kind, LimitExceeded):
        return kind(error.message, retry_after=error.retry_after, hint=error.hint)
    if issubclass(kind, AccessDenied):
        return kind(error.message, reason=f"auth said: {error.message}", hint=error.hint)
    return kind(error.message, hint=error.hint)
