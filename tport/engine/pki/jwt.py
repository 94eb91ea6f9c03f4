"""Signed tokens: the one that tells an application who is calling, and the one agents check.

Both are signed by the `jwt` authority, which only auth holds. They can't be taken for one
another: their `typ` and `aud` differ, and each verifier wants both. What we verify ourselves has
a header of exactly `typ`, `alg` and `kid`; the key is chosen by `kid` among our own, the
algorithm by the key, never by the token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, Literal

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.api_jws import PyJWS
from jwt.utils import base64url_encode

from tport.engine.defaults import CLOCK_SKEW
from tport.engine.errors import AccessDenied, NotSignedIn
from tport.engine.pki.authority import Authority
from tport.engine.pki.keys import load_private_key
from tport.engine.types.session import SessionCredential

JwtClaims = Literal["roles-and-traits", "roles", "traits", "none"]  # Teleport's `jwt_claims`

SESSION_TYPE: Final = "tport-session+jwt"  # explicit typing, RFC 8725 §3.11
SESSION_AUDIENCE: Final = "tport-agent"
MAX_TOKEN: Final = 128 * 1024  # characters; roles and traits of a person, twice, fit many times
_HEADER = {"typ", "alg", "kid"}


class _Claims(msgspec.Struct, frozen=True):
    """The session credential on the wire. Unknown claims pass: a newer auth may add some."""

    iss: str
    aud: str
    iat: int
    exp: int
    sid: str
    sub: str
    user_key: str
    roles: tuple[str, ...]
    traits: dict[str, tuple[str, ...]]
    app: str
    host: str
    epoch: int
    session_exp: int
    jwt: str


def sign_app_token(
    authority: Authority,
    *,
    app: str,
    user: str,
    roles: Sequence[str],
    traits: Mapping[str, Sequence[str]],
    audience: str,
    jti: str,
    now: datetime,
    expires: datetime,
    claims: JwtClaims = "roles-and-traits",
) -> str:
    """Sign the token that tells an application who is calling.

    Args:
        authority: the cluster's `jwt` authority.
        app: the application's name; two applications may share an audience.
        audience: the URI in the application's definition, to the letter.
        jti: unlike any other token's.
        now: time of issue, aware. The token is valid from a minute before.
        expires: aware: no token outlives its session.
        claims: which of roles and traits it holds. Traits without values are left out.

    Returns:
        A compact JWS (ES256, or RS256 by the authority's key), ASCII.

    Raises:
        NotSignedIn: the session is over.

    Source: claim names as in Teleport's guide "Integrating with JWTs"; RFC 7519 §4.1.
    """
    if expires <= now:
        raise NotSignedIn("session expired", reason=f"{user}'s session ended {expires:%FT%TZ}")
    payload: dict[str, Any] = {
        "iss": authority.cluster,
        "sub": user,
        "aud": [audience],
        "iat": _seconds(now),
        "nbf": _seconds(now - CLOCK_SKEW),
        "exp": _seconds(expires),
        "jti": jti,
        "username": user,
        "app": app,
        "cluster": authority.cluster,
    }
    if claims in ("roles-and-traits", "roles"):
        payload["roles"] = list(roles)
    if claims in ("roles-and-traits", "traits"):
        payload["traits"] = {name: list(values) for name, values in traits.items() if values}
    return _sign(authority, payload, "JWT")


def jwks(authority: Authority) -> dict[str, list[dict[str, str]]]:
    """Return the JWK Set (RFC 7517) of all trusted keys, the active one first; no private member."""
    return {"keys": [_jwk(pem) for pem in authority.trusted]}


def sign_session_credential(authority: Authority, credential: SessionCredential) -> str:
    """Sign what auth tells agents of an app session. Its `cluster` must be the authority's."""
    assert credential.cluster == authority.cluster
    claims = _Claims(
        iss=credential.cluster,
        aud=SESSION_AUDIENCE,
        iat=_seconds(credential.issued),
        exp=_seconds(credential.expires),
        sid=credential.sid,
        sub=credential.user,
        user_key=credential.user_key,
        roles=tuple(credential.roles),
        traits={name: tuple(values) for name, values in credential.traits.items()},
        app=credential.app,
        host=credential.host,
        epoch=credential.epoch,
        session_exp=_seconds(credential.session_expires),
        jwt=credential.jwt,
    )
    return _sign(authority, msgspec.to_builtins(claims), SESSION_TYPE)


def verify_session_credential(
    token: str, *, jwks: Mapping[str, object], cluster: str, now: datetime
) -> SessionCredential:
    """Return what auth signed.

    Args:
        jwks: auth's keys, as `jwks()` made them and as they came over mutual TLS.
        cluster: ours; a credential of any other is refused.
        now: aware. The other machine's clock may be CLOCK_SKEW off.

    Raises:
        NotSignedIn: it is genuine, and over, or from the future.
        AccessDenied: anything else; `reason` says what.
    """
    payload = _verified(token, jwks)
    try:
        claims = msgspec.json.decode(payload, type=_Claims)
        credential = SessionCredential(
            sid=claims.sid,
            user=claims.sub,
            user_key=claims.user_key,
            roles=claims.roles,
            traits=claims.traits,
            app=claims.app,
            host=claims.host,
            cluster=claims.iss,
            epoch=claims.epoch,
            issued=_time(claims.iat),
            expires=_time(claims.exp),
            session_expires=_time(claims.session_exp),
            jwt=claims.jwt,
        )
    except (msgspec.DecodeError, OverflowError, ValueError):
        raise _refused("claims missing, or of the wrong type") from None
    if claims.aud != SESSION_AUDIENCE:
        raise _refused(f"meant for {claims.aud!r}")
    if claims.iss != cluster:
        raise _refused(f"of cluster {claims.iss!r}, this is {cluster!r}")
    if credential.issued > now + CLOCK_SKEW:
        raise NotSignedIn(
            "the session is yet to begin",
            reason=f"credential issued {credential.issued:%FT%TZ}, by our clock it is {now:%FT%TZ}",
        )
    if min(credential.expires, credential.session_expires) + CLOCK_SKEW <= now:
        raise NotSignedIn(
            "the session is over",
            reason=f"credential expired {credential.expires:%FT%TZ}, by our clock it is {now:%FT%TZ}",
        )
    return credential


def _verified(token: str, keys: Mapping[str, object]) -> bytes:
    """Return the payload of a session credential whose signature is one of ours."""
    if len(token) > MAX_TOKEN:
        raise _refused(f"longer than {MAX_TOKEN} characters")
    jws = PyJWS()
    try:
        header = jws.get_unverified_header(token)
        if header.keys() != _HEADER:
            raise _refused(f"header of {', '.join(sorted(header))}")
        if header["typ"] != SESSION_TYPE:
            raise _refused(f"typ {header['typ']!r}")
        key = _trusted_key(keys, header["kid"])
        if key.algorithm_name != header["alg"]:
            raise _refused(f"alg {header['alg']!r}, the key is for {key.algorithm_name}")
        payload: bytes = jws.decode_complete(token, key, algorithms=[key.algorithm_name])["payload"]
    except jwt.PyJWTError as error:
        raise _refused(str(error)) from None
    return payload


def _trusted_key(keys: Mapping[str, object], kid: object) -> jwt.PyJWK:
    listed = keys.get("keys")
    for jwk in listed if isinstance(listed, list | tuple) else ():
        if jwk.get("kid") == kid:
            return _load_jwk(json.dumps(jwk, sort_keys=True))
    raise _refused(f"signed by a key unknown here ({kid!r})")


@lru_cache(maxsize=64)
def _load_jwk(text: str) -> jwt.PyJWK:
    jwk: dict[str, Any] = json.loads(text)
    if jwk.get("alg") not in ("ES256", "RS256"):  # never a symmetric key, whatever the set says
        raise _refused(f"key for {jwk.get('alg')!r}")
    return jwt.PyJWK(jwk)


def _sign(authority: Authority, payload: dict[str, Any], typ: str) -> str:
    jwk = _jwk(authority.trusted[0])
    return jwt.encode(
        payload,
        load_private_key(authority.key),
        algorithm=jwk["alg"],
        headers={"typ": typ, "kid": jwk["kid"]},
    )


@lru_cache(maxsize=64)
def _jwk(public_key: str) -> dict[str, str]:
    """Return the JWK of a public key (PEM); `kid` is its thumbprint, RFC 7638."""
    key = load_pem_public_key(public_key.encode())
    members: dict[str, str]
    if isinstance(key, ec.EllipticCurvePublicKey):
        members, algorithm = dict(ECAlgorithm.to_jwk(key, as_dict=True)), "ES256"
    else:
        assert isinstance(key, rsa.RSAPublicKey)  # `new_authority` makes no other
        members, algorithm = dict(RSAAlgorithm.to_jwk(key, as_dict=True)), "RS256"
    names = ("crv", "e", "kty", "n", "x", "y")  # all that RFC 7638 §3.2 lets count
    thumbed = {name: members[name] for name in names if name in members}
    canonical = json.dumps(thumbed, separators=(",", ":"), sort_keys=True)
    kid = base64url_encode(sha256(canonical.encode()).digest()).decode()
    return {**thumbed, "use": "sig", "alg": algorithm, "kid": kid}


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _refused(why: str) -> AccessDenied:
    return AccessDenied("session credential refused", reason=f"session credential refused: {why}")
