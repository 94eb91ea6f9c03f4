"""AZ-07: the verifier of session credentials pins type, algorithm and key."""

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.certs import CLUSTER
from tests.engine.pki.test_jwt import CREDENTIAL, app_token
from tests.fakes import START
from tport.engine.errors import AccessDenied, NotSignedIn
from tport.engine.pki.authority import new_authority
from tport.engine.pki.jwt import (
    SESSION_TYPE,
    jwks,
    sign_session_credential,
    verify_session_credential,
)
from tport.engine.pki.keys import load_private_key

AUTHORITY = new_authority("jwt", CLUSTER, now=START)
RSA = new_authority("jwt", CLUSTER, now=START, algorithm="RS256")
STRANGER = new_authority("jwt", CLUSTER, now=START)
KEYS = jwks(AUTHORITY)
GENUINE = sign_session_credential(AUTHORITY, CREDENTIAL)
CLAIMS = jwt.decode(GENUINE, options={"verify_signature": False})
HEADER = jwt.get_unverified_header(GENUINE)


def verify(token: str, keys: Any = KEYS) -> None:
    verify_session_credential(token, jwks=keys, cluster=CLUSTER, now=START)


def signed(claims: dict[str, Any] = CLAIMS, **header: Any) -> str:
    """Sign with the genuine key, under whatever header."""
    parts = [b64(json.dumps(HEADER | header).encode()), b64(json.dumps(claims).encode())]
    algorithm = jwt.algorithms.get_default_algorithms()["ES256"]
    signature = algorithm.sign(
        b".".join(parts), algorithm.prepare_key(load_private_key(AUTHORITY.key))
    )
    return b".".join([*parts, b64(signature)]).decode()


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def test_az_07_the_genuine_one_is_accepted() -> None:
    """Without this, every refusal below might be for another reason."""
    verify(GENUINE)
    verify(signed())


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["x"], "x": 1},
        {"crit": []},
        {"jku": "https://evil.test/jwks.json"},
        {"x5u": "https://evil.test/cert.pem"},
        {"x5c": ["MIIB"]},
        {"jwk": jwks(STRANGER)["keys"][0]},
        {"b64": False},
        {"typ": "JWT"},
        {"typ": "TPORT-SESSION+JWT"},
        {"typ": None},
        {"alg": "none"},
        {"alg": "ES384"},
        {"alg": "RS256"},
        {"alg": None},
        {"kid": "unknown"},
        {"kid": None},
        {"kid": 1},
    ],
)
def test_az_07_a_header_that_asks_for_anything_else_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(AccessDenied):
        verify(signed(**header))


def test_az_07_no_signature_is_no_signature() -> None:
    none = b".".join(
        [b64(json.dumps(HEADER | {"alg": "none"}).encode()), b64(json.dumps(CLAIMS).encode()), b""]
    )
    with pytest.raises(AccessDenied):
        verify(none.decode())


@pytest.mark.parametrize(
    "secret",
    [
        AUTHORITY.trusted[0].encode(),
        AUTHORITY.trusted[0].strip().encode(),
        json.dumps(KEYS["keys"][0]).encode(),
        b"",
    ],
)
def test_az_07_the_public_key_is_no_shared_secret(secret: bytes) -> None:
    """HS256 over the public key, the old confusion of algorithms."""
    body = (
        b64(json.dumps(HEADER | {"alg": "HS256"}).encode())
        + b"."
        + b64(json.dumps(CLAIMS).encode())
    )
    token = body + b"." + b64(hmac.new(secret, body, hashlib.sha256).digest())

    with pytest.raises(AccessDenied):
        verify(token.decode())


def test_az_07_a_symmetric_key_in_the_set_is_never_used() -> None:
    octets = {"kty": "oct", "k": "AAAA", "alg": "HS256", "kid": "k"}
    token = jwt.encode(
        CLAIMS, b"\0" * 32, algorithm="HS256", headers={"typ": SESSION_TYPE, "kid": "k"}
    )
    with pytest.raises(AccessDenied):
        verify(token, {"keys": [octets]})


def test_az_07_another_key_under_our_key_id_is_refused() -> None:
    for stranger, algorithm in ((STRANGER, "ES256"), (RSA, "RS256")):
        token = jwt.encode(
            CLAIMS,
            load_private_key(stranger.key),
            algorithm=algorithm,
            headers=HEADER | {"alg": algorithm},
        )
        with pytest.raises(AccessDenied):
            verify(token)


def test_az_07_an_application_s_token_opens_no_agent() -> None:
    """The same key signs both; `typ` and `aud` tell them apart."""
    with pytest.raises(AccessDenied):
        verify(app_token(AUTHORITY))
    with pytest.raises(AccessDenied):
        verify(signed(CLAIMS | {"aud": "http://localhost:3000"}))


@pytest.mark.parametrize(
    "claims",
    [
        {k: v for k, v in CLAIMS.items() if k != "exp"},
        {k: v for k, v in CLAIMS.items() if k != "roles"},
        CLAIMS | {"exp": "never"},
        CLAIMS | {"exp": 10**30},
        CLAIMS | {"exp": None},
        CLAIMS | {"roles": "admin"},
        CLAIMS | {"iss": "other.test"},
        CLAIMS | {"iat": CLAIMS["iat"] + 3600, "exp": CLAIMS["exp"] + 3600},
    ],
)
def test_az_07_claims_that_are_not_ours_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(AccessDenied):
        verify(signed(claims))


def test_az_07_the_system_clock_has_no_say() -> None:
    """Expiry is judged by the clock that is handed in, and by nothing else."""
    late = START + timedelta(days=10_000)
    with pytest.raises(NotSignedIn):
        verify_session_credential(GENUINE, jwks=KEYS, cluster=CLUSTER, now=late)


@given(st.text(max_size=300) | st.text("ey.{}AZaz09-_", max_size=300))
def test_az_07_whatever_else_comes_as_a_token_is_refused(token: str) -> None:
    with pytest.raises(AccessDenied):
        verify(token)


@given(st.data())
def test_az_07_a_token_changed_anywhere_is_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GENUINE) - 3))  # the last bits of base64 may be unused
    new = data.draw(st.sampled_from("Aa0-_.z"))
    if GENUINE[at] != new:
        with pytest.raises(AccessDenied):
            verify(GENUINE[:at] + new + GENUINE[at + 1 :])


def test_az_08_the_published_keys_hold_no_private_member() -> None:
    """AZ-08: public members only, each key named by its thumbprint, for signatures only."""
    for authority, members in ((AUTHORITY, {"crv", "x", "y"}), (RSA, {"n", "e"})):
        (jwk,) = jwks(authority)["keys"]
        assert jwk.keys() == members | {"kty", "use", "alg", "kid"}
        assert jwk["use"] == "sig"
