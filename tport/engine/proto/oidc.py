"""OpenID Connect's code flow as messages: what is asked of a provider, what it may answer. Sans-IO.

    discovery → authorization URL → (the browser) → callback → token request → token answer → user info

OpenID Connect Core 1.0 §3.1, Discovery 1.0, RFC 7636 (PKCE, S256 alone), RFC 9207 (`iss` in the
callback), RP-Initiated Logout 1.0. What an ID token must say is judged by `pki.id_token`.
A provider is trusted to say who somebody is, not to be sound: answers are bounded and typed, and
what they say in words is cut and printable.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import quote_plus, urlencode

import msgspec
from msgspec import Meta

from tport.engine.errors import TportError
from tport.engine.types.connector import OidcConnector, check_provider_url

MAX_ANSWER: Final = 1024 * 1024  # bytes; a thousand groups in a token take some 60 KiB
MAX_WORDS: Final = 300  # characters that are kept of what a provider says
WELL_KNOWN: Final = "/.well-known/openid-configuration"
# What a callback's `error` may be: RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6.
ERRORS: Final = frozenset(
    {
        "access_denied",
        "account_selection_required",
        "consent_required",
        "interaction_required",
        "invalid_request",
        "invalid_request_object",
        "invalid_request_uri",
        "invalid_scope",
        "login_required",
        "registration_not_supported",
        "request_not_supported",
        "request_uri_not_supported",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_response_type",
    }
)
_CODE: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,262144}")

T = TypeVar("T")
Address = Annotated[str, Meta(max_length=2048)]
Words = tuple[Annotated[str, Meta(max_length=256)], ...]


class ProviderProblem(TportError):
    """The provider refused, or answered what can't be understood. The text is for the operator."""

    exit_code = 1
    status = 502


@dataclass(frozen=True, kw_only=True)
class ProviderRequest:
    """One request to a provider, complete. `form`: its body, for a POST."""

    method: Literal["GET", "POST"]
    url: str
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class ProviderAnswer:
    status: int
    body: bytes = field(repr=False)


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says of itself. Unknown members pass."""

    issuer: Address
    authorization_endpoint: Address
    token_endpoint: Address
    jwks_uri: Address
    userinfo_endpoint: Address = ""
    end_session_endpoint: Address = ""
    id_token_signing_alg_values_supported: Words = ("RS256",)
    token_endpoint_auth_methods_supported: Words = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """A token answer: of use are who it is, and what user info is asked with."""

    id_token: str
    access_token: str = ""


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    error: str = ""
    error_description: str = ""


def discovery_request(issuer: str) -> ProviderRequest:
    return ProviderRequest(method="GET", url=issuer.rstrip("/") + WELL_KNOWN)


def read_discovery(answer: ProviderAnswer, issuer: str) -> Discovery:
    """Return what the provider says of itself.

    Raises:
        ProviderProblem: it isn't there, is another issuer's, or names addresses that are none.
    """
    found = decoded(answer, Discovery, "its discovery document")
    if found.issuer != issuer:
        raise ProviderProblem(
            f"the discovery document is of another issuer, {printable(found.issuer)!r}",
            hint=f"if that is the provider that you mean: issuer_url: {printable(found.issuer)}",
        )
    for name in (
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
        "userinfo_endpoint",
        "end_session_endpoint",
    ):
        url: str = getattr(found, name)
        if url:
            check_endpoint(url, name)
        if url.startswith("http://") and not issuer.startswith("http://"):
            raise ProviderProblem(f"the provider leads to this very machine: {name}")
    return found


def check_endpoint(url: str, name: str) -> None:
    """Return when this can be asked; an endpoint may have a query."""
    try:
        check_provider_url(url.partition("?")[0], name)
    except TportError as problem:
        raise ProviderProblem(f"the provider names an address that is none: {problem}") from None
    if not url.isascii() or not url.isprintable() or " " in url or "#" in url:
        raise ProviderProblem(f"the provider names an address that is none: {name}")


# --- The browser's way ---------------------------------------------------------------------------------


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a PKCE verifier (RFC 7636 §4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()


def authorization_url(
    connector: OidcConnector,
    found: Discovery,
    *,
    redirect_url: str,
    state: str,
    nonce: str,
    verifier: str,
) -> str:
    """Return where the browser is sent to sign in at the provider."""
    query = {
        "response_type": "code",
        "client_id": connector.client_id,
        "redirect_uri": redirect_url,
        "scope": " ".join(dict.fromkeys(("openid", *connector.scope))),
        "state": state,
        "nonce": nonce,
    }
    if connector.pkce:
        query["code_challenge"] = challenge_of(verifier)
        query["code_challenge_method"] = "S256"
    if connector.prompt:
        query["prompt"] = connector.prompt
    if connector.acr_values:
        query["acr_values"] = " ".join(connector.acr_values)
    if connector.max_age is not None:
        query["max_age"] = str(int(connector.max_age.total_seconds()))
    return with_query(found.authorization_endpoint, query)


def end_session_url(found: Discovery, *, client_id: str, id_token: str, back: str) -> str:
    """Return where a browser is sent to end the provider's session, too; "": there is no such place."""
    if not found.end_session_endpoint:
        return ""
    query = {"client_id": client_id, "post_logout_redirect_uri": back}
    if id_token:
        query["id_token_hint"] = id_token
    return with_query(found.end_session_endpoint, query)


def with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser brought back, each at most once.

    Attributes:
        error, description: why the provider sent no code.
        issuer: RFC 9207's `iss`; "": none.
    """

    state: str = ""
    code: str = ""
    error: str = ""
    description: str = ""
    issuer: str = ""


def read_callback(query: Iterable[tuple[str, str]]) -> Callback:
    """Return what a callback's query says.

    Raises:
        ProviderProblem: a parameter comes twice, or a code can be none.
    """
    found: dict[str, str] = {}
    for name, value in query:
        if name in _CALLBACK:
            if name in found:
                raise ProviderProblem(f"the provider's answer has {name} twice")
            found[name] = value
    code = found.get("code", "")
    if code and not _CODE.fullmatch(code):
        raise ProviderProblem("the provider's code can be none")
    return Callback(
        state=found.get("state", "")[:512],
        code=code,
        error=printable(found.get("error", "")),
        description=printable(found.get("error_description", "")),
        issuer=found.get("iss", "")[:2048],
    )


_CALLBACK: Final = frozenset({"state", "code", "error", "error_description", "iss"})


def check_issuer(callback: Callback, found: Discovery) -> None:
    """Return when a callback is of the provider that was asked (RFC 9207 §2.4).

    Raises:
        ProviderProblem: another one's, or this one would have said so.
    """
    if callback.issuer and callback.issuer != found.issuer:
        raise ProviderProblem("the answer is of another provider than the one that was asked")
    if not callback.issuer and found.authorization_response_iss_parameter_supported:
        raise ProviderProblem("the answer does not say which provider it is of, as this one would")


# --- Our own way ---------------------------------------------------------------------------------------


def token_request(
    connector: OidcConnector, found: Discovery, *, code: str, redirect_url: str, verifier: str
) -> ProviderRequest:
    """Return what trades a code for tokens, authenticated as the provider wants it."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_url}
    if connector.pkce:
        form["code_verifier"] = verifier
    headers = {"Accept": "application/json"}
    methods = found.token_endpoint_auth_methods_supported
    if not connector.client_secret:
        form["client_id"] = connector.client_id
    elif "client_secret_basic" in methods or "client_secret_post" not in methods:
        # RFC 6749 §2.3.1: both are form-encoded first.
        pair = f"{quote_plus(connector.client_id)}:{quote_plus(connector.client_secret)}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    else:
        form |= {"client_id": connector.client_id, "client_secret": connector.client_secret}
    return ProviderRequest(method="POST", url=found.token_endpoint, form=form, headers=headers)


def read_tokens(answer: ProviderAnswer) -> Tokens:
    """Return the tokens.

    Raises:
        ProviderProblem: there are none; with the provider's words.
    """
    tokens = decoded(answer, Tokens, "its tokens")
    if not all(_TOKEN.fullmatch(token or "-") for token in msgspec.structs.astuple(tokens)):
        raise ProviderProblem("the provider sent tokens that can be none")
    return tokens


def user_info_request(found: Discovery, access_token: str) -> ProviderRequest:
    headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
    return ProviderRequest(method="GET", url=found.userinfo_endpoint, headers=headers)


def read_user_info(answer: ProviderAnswer, subject: str) -> dict[str, object]:
    """Return the claims of a user info answer about the very person of the ID token (§5.3.2).

    Raises:
        ProviderProblem: it is no JSON object, or about somebody else.
    """
    claims = decoded(answer, dict[str, object], "what it knows of the person")
    if claims.get("sub") != subject:
        raise ProviderProblem("the provider's user info is about somebody else")
    return claims


def decoded(answer: ProviderAnswer, type_: type[T], what: str) -> T:
    """Return what an answer holds.

    Raises:
        ProviderProblem: it is another one; `what` is what was asked for.
    """
    if answer.status != 200:
        raise ProviderProblem(
            f"the provider did not send {what}: it said {answer.status}{_said(answer.body)}"
        )
    if len(answer.body) > MAX_ANSWER:
        raise ProviderProblem(f"the provider sent {what} in more than {MAX_ANSWER} bytes")
    try:
        return msgspec.convert(json.loads(answer.body, parse_constant=_refuse), type_)
    except (ValueError, RecursionError) as problem:
        words = (
            printable(str(problem)) if isinstance(problem, msgspec.ValidationError) else "no JSON"
        )
        raise ProviderProblem(f"the provider did not send {what}: {words}") from None


def _refuse(_: str) -> object:
    raise ValueError("NaN is no JSON")


def _said(body: bytes) -> str:
    """Return ` (invalid_grant: words)` of an error answer (RFC 6749 §5.2), else ""."""
    try:
        error = msgspec.json.decode(body[:8192], type=_Error)
    except msgspec.MsgspecError:
        return ""
    words = ": ".join(printable(word) for word in msgspec.structs.astuple(error) if word)
    return f" ({words})" if words else ""


def printable(text: str) -> str:
    """Return what somebody else says so that a terminal and a log can take it."""
    cut = text[:MAX_WORDS]
    return "".join(char if char.isprintable() else "?" for char in cut)
