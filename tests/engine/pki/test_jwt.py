import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.certs import CLUSTER
from tests.fakes import START
from tport.engine.errors import AccessDenied, NotSignedIn
from tport.engine.pki.authority import Authority, SigningAlgorithm, new_authority
from tport.engine.pki.jwt import (
    MAX_TOKEN,
    JwtClaims,
    jwks,
    sign_app_token,
    sign_session_credential,
    verify_session_credential,
)
from tport.engine.types.session import SessionCredential

URI = "http://localhost:3000/sub?x=1"
CREDENTIAL = SessionCredential(
    sid="5e55",
    user="alice",
    user_key="cafe",
    roles=("dev", "ops"),
    traits={"logins": ("alice", "root")},
    app="grafana",
    host="grafana.proxy.test",
    cluster=CLUSTER,
    epoch=7,
    issued=START,
    expires=START + timedelta(minutes=5),
    session_expires=START + timedelta(hours=1),
    jwt="ey…",
)


@pytest.fixture(scope="module", params=["ES256", "RS256"])
def authority(request: pytest.FixtureRequest) -> Authority:
    algorithm: SigningAlgorithm = request.param
    return new_authority("jwt", CLUSTER, now=START, algorithm=algorithm)


def app_token(authority: Authority, claims: JwtClaims = "roles-and-traits", **changes: Any) -> str:
    arguments: dict[str, Any] = {
        "app": "grafana",
        "user": "alice",
        "roles": ["dev"],
        "traits": {"env": ["prod"], "none": []},
        "audience": URI,
        "jti": "1",
        "now": START,
        "expires": START + timedelta(hours=1),
    }
    return sign_app_token(authority, claims=claims, **(arguments | changes))


def test_an_application_can_verify_its_token_with_the_published_keys(
    authority: Authority,
) -> None:
    """As an application would: a JWT library, the JWKS, its own URI, the real clock."""
    now = datetime.now(UTC)
    token = app_token(authority, now=now, expires=now + timedelta(hours=1))
    kid = jwt.get_unverified_header(token)["kid"]
    key = jwt.PyJWKSet.from_dict(json.loads(json.dumps(jwks(authority))))[kid]

    claims = jwt.decode(token, key, algorithms=[key.algorithm_name], audience=URI, issuer=CLUSTER)

    issued = int(now.timestamp())
    assert claims == {
        "iss": CLUSTER,
        "sub": "alice",
        "username": "alice",
        "aud": [URI],
        "iat": issued,
        "nbf": int((now - timedelta(minutes=1)).timestamp()),
        "exp": issued + 3600,
        "jti": "1",
        "app": "grafana",
        "cluster": CLUSTER,
        "roles": ["dev"],
        "traits": {"env": ["prod"]},
    }


@pytest.mark.parametrize(
    ("claims", "present"),
    [
        ("roles-and-traits", {"roles", "traits"}),
        ("roles", {"roles"}),
        ("traits", {"traits"}),
        ("none", set()),
    ],
)
def test_jwt_claims_chooses_what_the_application_learns(
    authority: Authority, claims: JwtClaims, present: set[str]
) -> None:
    token = app_token(authority, claims)

    payload = jwt.decode(token, options={"verify_signature": False})

    assert payload.keys() & {"roles", "traits"} == present


def test_no_token_is_made_for_a_session_that_is_over(authority: Authority) -> None:
    with pytest.raises(NotSignedIn):
        app_token(authority, expires=START)


def test_the_key_id_is_the_thumbprint_of_rfc_7638() -> None:
    """The key and its thumbprint are those of RFC 7638, section 3.1."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc"
        "_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0"
        "_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI"
        "4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    pem = jwt.PyJWK({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256"}).key.public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    authority = Authority(
        kind="jwt", cluster=CLUSTER, generation=1, key="", trusted=(pem.decode(),)
    )

    (jwk,) = jwks(authority)["keys"]

    assert jwk["kid"] == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_agents_read_what_auth_signed(authority: Authority) -> None:
    token = sign_session_credential(authority, CREDENTIAL)

    assert (
        verify_session_credential(token, jwks=jwks(authority), cluster=CLUSTER, now=START)
        == CREDENTIAL
    )


def test_the_keys_may_have_travelled_as_json(authority: Authority) -> None:
    token = sign_session_credential(authority, CREDENTIAL)
    keys = msgspec.json.decode(msgspec.json.encode(jwks(authority)))

    verify_session_credential(token, jwks=keys, cluster=CLUSTER, now=START)


def test_a_credential_of_the_last_key_is_believed_while_that_is_trusted(
    authority: Authority,
) -> None:
    """AZ-08: rotation keeps the old key listed."""
    token = sign_session_credential(authority, CREDENTIAL)
    fresh = new_authority("jwt", CLUSTER, now=START, generation=2)
    rotated = msgspec.structs.replace(fresh, trusted=(*fresh.trusted, *authority.trusted))

    verify_session_credential(token, jwks=jwks(rotated), cluster=CLUSTER, now=START)


def test_a_credential_ends_with_itself_or_its_session(authority: Authority) -> None:
    """Two machines' clocks may differ by a minute; no more is given."""
    short = msgspec.structs.replace(CREDENTIAL, session_expires=START + timedelta(minutes=2))
    for credential, minutes in ((CREDENTIAL, 5), (short, 2)):
        token = sign_session_credential(authority, credential)
        end = START + timedelta(minutes=minutes + 1)

        verify_session_credential(
            token, jwks=jwks(authority), cluster=CLUSTER, now=end - timedelta(seconds=1)
        )
        with pytest.raises(NotSignedIn):
            verify_session_credential(token, jwks=jwks(authority), cluster=CLUSTER, now=end)


def test_a_credential_of_any_length_is_refused_before_it_is_read(authority: Authority) -> None:
    """DOS-03: whoever holds a proxy's certificate may send one."""
    token = sign_session_credential(authority, CREDENTIAL)

    with pytest.raises(AccessDenied) as refused:
        verify_session_credential(
            token + "A" * MAX_TOKEN, jwks=jwks(authority), cluster=CLUSTER, now=START
        )

    assert "longer than 131072 characters" in refused.value.reason
