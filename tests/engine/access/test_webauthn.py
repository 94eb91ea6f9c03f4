"""What an authenticator's answer must be, alone: whatever else it says is refused, and why is for the audit log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.authenticator import PRESENT, VERIFIED, Authenticator, b64
from tests.fakes import START
from tport.engine.access.webauthn import (
    RelyingParty,
    check_assertion,
    check_registration,
    creation_options,
    credential_of,
    request_options,
)
from tport.engine.errors import InvalidRequest
from tport.engine.types.factor import WebauthnDevice

HOST = "tport.example.com"
ORIGIN = f"https://{HOST}"
PARTY = RelyingParty(id=HOST, name="example", origins=(ORIGIN,))
CHALLENGE, OTHER = b64(b"a challenge" * 3), b64(b"another one" * 3)
CREATION = creation_options(PARTY, CHALLENGE, user_id="1", user="alice", taken=())


def honest(**lies: Any) -> Authenticator:
    return Authenticator(**{"origin": ORIGIN, "rp_id": HOST, **lies})


def device_of(key: Authenticator, **changes: Any) -> WebauthnDevice:
    made = check_registration(honest(id=key.id, key=key.key).create(CREATION), PARTY, CHALLENGE)
    known = {
        "id": "1",
        "name": "a key",
        "added": START,
        "credential": made.credential,
        "public_key": made.public_key,
        "sign_count": 0,
        "rp_id": HOST,
    }
    return WebauthnDevice(**{**known, **changes})


def signed(key: Authenticator, device: WebauthnDevice, *, verify: bool = False) -> int:
    options = request_options(PARTY, CHALLENGE, [device], verify=verify)
    return check_assertion(key.get(options), PARTY, CHALLENGE, device, verify=verify)


def test_an_honest_answer_counts_and_tells_the_counter() -> None:
    key = honest(count=7)

    assert signed(key, device_of(key, sign_count=6), verify=True) == 7
    assert signed(honest(id=key.id, key=key.key), device_of(key)) == 0  # it keeps no counter


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "another origin": ({"origin": f"https://app.{HOST}"}, "no address of the proxy"),
    "another host": ({"rp_id": f"app.{HOST}"}, "made for another host"),
    "a frame": ({"cross_origin": True}, "inside another site's page"),
    "nobody there": ({"flags": VERIFIED}, "nobody was present"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_when_a_passkey_is_made_and_when_it_is_used(lie: str) -> None:
    """AUTH-08, AUTH-09."""
    lies, why = LIES[lie]
    key = honest(**lies)

    with pytest.raises(InvalidRequest, match=why):
        check_registration(key.create(CREATION), PARTY, CHALLENGE)
    with pytest.raises(InvalidRequest, match=why):
        signed(key, device_of(key))


def test_who_must_be_asked_by_the_authenticator_is_and_only_then() -> None:
    """AUTH-08: a passkey that signs in without a password."""
    key = honest(flags=PRESENT)

    signed(key, device_of(key))
    with pytest.raises(InvalidRequest, match="did not ask who it is"):
        signed(key, device_of(key), verify=True)


@pytest.mark.parametrize(("before", "now"), [(7, 7), (7, 6), (7, 0)])
def test_a_counter_that_does_not_go_on_is_a_copy(before: int, now: int) -> None:
    """AUTH-08."""
    key = honest(count=now)

    with pytest.raises(InvalidRequest, match="may have been copied"):
        signed(key, device_of(key, sign_count=before))


def test_an_answer_is_to_its_own_challenge() -> None:
    """AUTH-08: and no registration is an answer to a sign-in, or the other way round."""
    key = honest()
    device = device_of(key)
    options = request_options(PARTY, OTHER, [device], verify=False)

    with pytest.raises(InvalidRequest, match="another challenge"):
        check_assertion(key.get(options), PARTY, CHALLENGE, device, verify=False)
    with pytest.raises(InvalidRequest, match="another challenge"):
        check_registration(key.create(options), PARTY, CHALLENGE)


def test_an_answer_of_another_credential_is_refused_before_its_signature_is_looked_at() -> None:
    """AUTH-08: its key would fit."""
    mine, other = honest(), honest()
    device = device_of(mine)
    other.key = mine.key

    with pytest.raises(InvalidRequest, match="of another credential"):
        signed(other, device)


def test_a_credential_that_was_made_for_another_address_of_old_signs_in_nobody() -> None:
    """AUTH-09: the proxy has moved since."""
    key = honest()

    with pytest.raises(InvalidRequest, match=r"made for old\.example\.com"):
        signed(key, device_of(key, rp_id="old.example.com"))
    options = request_options(
        PARTY, CHALLENGE, [device_of(key, rp_id="old.example.com")], verify=True
    )
    assert json.loads(options)["allowCredentials"] == []


def test_a_signature_by_another_key_is_refused() -> None:
    """AUTH-08."""
    mine, other = honest(), honest()
    other.id = mine.id

    with pytest.raises(InvalidRequest, match="signature is wrong"):
        signed(other, device_of(mine))


def test_an_algorithm_that_was_not_offered_is_not_taken() -> None:
    """AUTH-08: RS1 is SHA-1."""
    with pytest.raises(InvalidRequest, match="-65535"):
        check_registration(honest(algorithm=-65535).create(CREATION), PARTY, CHALLENGE)


def test_a_registration_whose_two_ids_differ_is_refused() -> None:
    """AUTH-08: or one would be stored, and another be looked for."""
    answer = json.loads(honest().create(CREATION))
    answer["id"] = answer["rawId"] = b64(b"another id" * 3)

    with pytest.raises(InvalidRequest, match="holds no credential"):
        check_registration(json.dumps(answer), PARTY, CHALLENGE)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "no JSON"),
        ("[" * 5000, "no JSON"),
        ("[]", "no object"),
        ("{}", "can't be read"),
        ('{"rawId": 7}', "can't be read"),
        ('{"a": "' + "x" * 10**6 + '"}', "too long"),
    ],
)
def test_whatever_else_comes_is_refused_and_no_bug(answer: str, why: str) -> None:
    """AUTH-08, DOS-03."""
    checks: list[Callable[[], object]] = [
        lambda: check_registration(answer, PARTY, CHALLENGE),
        lambda: check_assertion(answer, PARTY, CHALLENGE, device_of(honest()), verify=False),
    ]
    for check in checks:
        with pytest.raises(InvalidRequest, match=why):
            check()


def test_an_answer_says_whose_it_is_before_anything_is_believed() -> None:
    key = honest()
    options = request_options(PARTY, CHALLENGE, [], verify=True)

    assert credential_of(key.get(options)) == b64(key.id)
    for answer in ("{}", '{"rawId": 7}', '{"rawId": null}'):
        with pytest.raises(InvalidRequest, match="names no credential"):
            credential_of(answer)
