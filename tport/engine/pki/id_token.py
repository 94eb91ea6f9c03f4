"""ID tokens of identity providers, checked by rules of our own. Pure.

OpenID Connect Core §3.1.3.7 and RFC 8725: the algorithm must be one of those pinned here and be
named by the provider; the key is chosen among the provider's own by `kid` and by the algorithm's kind,
and never by what a token brings along; every claim that says for whom, by whom, and when is judged.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256, sha384, sha512
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt import PyJWK
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from tport.engine.defaults import CLOCK_SKEW, FRESH_PROOF
from tport.engine.errors import AccessDenied

MAX_TOKEN: Final = 256 * 1024  # characters
MAX_KEYS: Final = 100  # of one provider
MAX_MOMENT: Final = 1e12  # s; what is later is no time
MIN_RSA: Final = 2048  # bits
MAX_SUBJECT: Final = 255  # characters. Source: OpenID Connect Core §2
# Asymmetric ones alone: with HS256 whoever knows the client's secret could be anybody.
ALGORITHMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
_HASHES: Final = {"256": sha256, "384": sha384, "512": sha512}
BACK_CHANNEL: Final = "http://schemas.openid.net/event/backchannel-logout"


class _Header(msgspec.Struct, frozen=True):
    """Unknown members pass, and mean nothing: `jku`, `jwk`, `x5u` choose no key here."""

    alg: str
    kid: str = ""
    typ: str = ""
    crit: object = None


class _Key(msgspec.Struct, frozen=True):
    kty: str
    kid: str = ""
    use: str = ""
    alg: str = ""


class ProviderKeys:
    """A provider's keys, as its `jwks_uri` gave them."""

    def __init__(self, document: bytes) -> None:
        """
        Raises:
            ValueError: it is no JWK set.
        """
        found = json.loads(document)
        keys = found.get("keys") if isinstance(found, dict) else None
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise ValueError("no JWK set")
        self._keys: list[tuple[_Key, dict[str, Any]]] = []
        for key in keys:
            try:
                self._keys.append((msgspec.convert(key, _Key), key))
            except msgspec.ValidationError:
                continue  # of a kind that we don't know: others are there

    def fitting(self, kid: str, algorithm: str) -> Sequence[dict[str, Any]]:
        """Return the keys that a token with this header may have been signed with."""
        return [
            raw
            for key, raw in self._keys
            if key.kty == ALGORITHMS[algorithm]
            and key.use in ("", "sig")
            and key.alg in ("", algorithm)
            and (not kid or key.kid == kid)
        ]


class UnknownKey(AccessDenied):
    """No key of the provider's fits: it may have got a new one since it was asked."""


def verified_claims(
    token: str, keys: ProviderKeys, algorithms: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """Return algorithm and claims of a token that the provider signed; no claim is judged yet.

    Args:
        algorithms: what the provider says it signs with.

    Raises:
        UnknownKey: it may be signed with a key that isn't there.
        AccessDenied: it is no such token.
    """
    header = read_header(token, algorithms)
    fitting = keys.fitting(header.kid, header.alg)
    for raw in fitting:
        payload = _signed(PyJWS(), token, raw, header.alg)
        if payload is not None:
            return header.alg, payload
    if not fitting or not header.kid:
        raise UnknownKey("the ID token was not accepted", reason="no key of the provider's fits it")
    raise _denied("its signature is not the provider's")


def read_header(token: str, algorithms: Sequence[str]) -> _Header:
    """Return the header of what may be such a token; to be asked before the provider's keys are.

    Raises:
        AccessDenied: it is none.
    """
    if len(token) > MAX_TOKEN:
        raise _denied("it is too long")
    try:
        header = msgspec.convert(PyJWS().get_unverified_header(token), _Header)
    except (PyJWTError, msgspec.ValidationError):
        raise _denied("it is no signed token") from None
    if header.alg not in ALGORITHMS or header.alg not in algorithms:
        raise _denied(
            f"its algorithm, {header.alg[:16]!r}, is not one that this provider signs with"
        )
    if header.crit is not None:
        raise _denied("it wants to be understood in ways that are unknown here")
    if header.typ.upper() not in ("", "JWT", "LOGOUT+JWT"):
        raise _denied(f"it is of another type, {header.typ[:32]!r}")
    return header


def _signed(jws: PyJWS, token: str, raw: dict[str, Any], algorithm: str) -> dict[str, Any] | None:
    try:
        key = PyJWK(raw, algorithm=algorithm)
        if isinstance(key.key, rsa.RSAPublicKey) and key.key.key_size < MIN_RSA:
            return None
        claims = json.loads(jws.decode(token, key, algorithms=[algorithm]))
    except (PyJWTError, ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def check_id_token(
    claims: Mapping[str, Any],
    *,
    issuer: str,
    client_id: str,
    nonce: str,
    now: datetime,
    max_age: timedelta | None = None,
    acr_values: Sequence[str] = (),
) -> str:
    """Return the subject of a token that is for this sign-in, and for nothing else.

    Args:
        claims: of `verified_claims`.
        max_age: how long ago the person may have signed in at the provider, if we asked for that.
        acr_values: one of which `acr` must be; none: it may be anything.

    Raises:
        AccessDenied: `reason` names the claim.
    """
    _check_parties(claims, issuer, client_id)
    _check_times(claims, now)
    if not nonce or claims.get("nonce") != nonce:
        raise _denied("nonce: it was made for another sign-in")
    if max_age is not None:
        signed_in = _moment(claims, "auth_time")
        if (
            signed_in is None
            or now.timestamp() - signed_in > (max_age + CLOCK_SKEW).total_seconds()
        ):
            raise _denied("auth_time: the sign-in at the provider is too long ago")
    if acr_values and claims.get("acr") not in acr_values:
        raise AccessDenied(
            "the provider did not ask you for the proof that this cluster wants",
            reason=f"acr: {str(claims.get('acr'))[:80]!r} is none of {', '.join(acr_values)[:200]}",
        )
    return _subject(claims)


def check_logout_token(
    claims: Mapping[str, Any], *, issuer: str, client_id: str, now: datetime
) -> tuple[str, str]:
    """Return subject and provider's session, either may be "", of a token that ends sessions.

    Source: OpenID Connect Back-Channel Logout 1.0 §2.6.

    Raises:
        AccessDenied: it is none.
    """
    _check_parties(claims, issuer, client_id)
    _check_times(claims, now)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(BACK_CHANNEL), dict):
        raise _denied("events: it is no logout token")
    if "nonce" in claims:
        raise _denied("nonce: a logout token has none")
    subject, session = (
        value if isinstance(value := claims.get(name), str) else "" for name in ("sub", "sid")
    )
    if not subject and not session:
        raise _denied("sub, sid: it says of nobody")
    return subject, session


def check_access_token_hash(claims: Mapping[str, Any], access_token: str, algorithm: str) -> None:
    """Return unless an ID token says that it came with another access token (§3.1.3.8)."""
    wanted = claims.get("at_hash")
    if wanted is None or algorithm[-3:] not in _HASHES:
        return
    digest = _HASHES[algorithm[-3:]](access_token.encode()).digest()
    half = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if wanted != half:
        raise _denied("at_hash: it came with another access token")


def _check_parties(claims: Mapping[str, Any], issuer: str, client_id: str) -> None:
    if claims.get("iss") != issuer:
        raise _denied("iss: it is of another issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences:
        raise _denied("aud: it is for another client")
    party = claims.get("azp")
    if (len(audiences) > 1 or party is not None) and party != client_id:
        raise _denied("azp: it was made for another client")


def _check_times(claims: Mapping[str, Any], now: datetime) -> None:
    skew = CLOCK_SKEW.total_seconds()
    expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
    begins = _moment(claims, "nbf")
    here = now.timestamp()
    if expires is None or issued is None:
        raise _denied("exp, iat: it does not say when it is valid")
    if here >= expires + skew:
        raise _denied(f"exp: it expired {here - expires:.0f} s ago by this clock")
    for name, moment in (("iat", issued), ("nbf", begins)):
        if moment is not None and moment > here + skew:
            raise _denied(f"{name}: it is of {moment - here:.0f} s from now by this clock")


def shown_ago(claims: Mapping[str, Any], now: datetime) -> timedelta | None:
    """Return how long ago somebody has shown at their provider who they are; None: over FRESH_PROOF.

    Google and GitHub don't tell, and can't be asked to have it shown anew: with them signing in must do.
    """
    if "auth_time" not in claims:
        return timedelta()
    signed_in = _moment(claims, "auth_time")
    if signed_in is None:
        return None
    age = timedelta(seconds=now.timestamp() - signed_in)
    return max(age, timedelta()) if -CLOCK_SKEW <= age < FRESH_PROOF else None


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) < MAX_MOMENT else None  # NaN is less than nothing


def _subject(claims: Mapping[str, Any]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
        raise _denied("sub: it does not say who")
    return subject


def _denied(why: str) -> AccessDenied:
    return AccessDenied("the provider's ID token was not accepted", reason=f"ID token: {why}")
