"""OpenID Connect in small, for tests: a provider at a site of its own, and an application that relies on it.

The authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636); the code comes back in a
redirect or in a form (OAuth 2.0 Form Post Response Mode). The application knows nothing of tport
but what any application behind a proxy knows: its address is in X-Forwarded-Host.
"""

from __future__ import annotations

import base64
import hashlib
import html
import http.client
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.site import Answer, Request, Site, serve, to

ResponseMode = Literal["query", "form_post"]

CLIENT, SECRET = "portal", secrets.token_urlsafe(16)
LOGIN = "login"  # the application's cookie that holds what it asked the provider
SESSION = "portal_session"


class Provider:
    """Signs in whoever types a name.

    Attributes:
        issuer: where browsers find it: another site than any application's.
        port: where applications do.
    """

    def __init__(self) -> None:
        self.issuer, self.port = "", 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._codes: dict[str, dict[str, str]] = {}

    def respond(self, request: Request) -> Answer:
        match request.method, request.path:
            case "GET", "/authorize":
                fields = {**request.query, "username": ""}
                return Answer(f"<title>Provider</title>{_form('/authorize', fields, 'Continue')}")
            case "POST", "/authorize":
                return self._authorized(request.form)
            case "POST", "/token":
                return self._token(request)
            case "GET", "/keys":
                key = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
                return Answer(json.dumps({"keys": [key]}), kind="application/json")
        return Answer("not found", 404)

    def _authorized(self, asked: dict[str, str]) -> Answer:
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        fields = {"code": code, "state": asked["state"]}
        if asked["response_mode"] == "query":
            return to(f"{asked['redirect_uri']}?{urlencode(fields)}")
        form = _form(asked["redirect_uri"], fields, "Go on")
        return Answer(f"{form}<script>document.forms[0].submit()</script>")

    def _token(self, request: Request) -> Answer:
        form = request.form
        asked = self._codes.pop(form["code"])
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        assert request.headers["Authorization"] == f"Basic {basic}"
        assert form["redirect_uri"] == asked["redirect_uri"]
        assert challenge(form["code_verifier"]) == asked["code_challenge"]
        claims = {
            "iss": self.issuer,
            "sub": asked["username"],
            "aud": CLIENT,
            "nonce": asked["nonce"],
            "iat": int(time.time()),
            "exp": int(time.time()) + 60,
        }
        token = jwt.encode(claims, self._key, algorithm="ES256")
        return Answer(json.dumps({"id_token": token}), kind="application/json")


class Portal:
    """An application that greets people by the name that the provider has for them."""

    def __init__(self, provider: Provider, mode: ResponseMode) -> None:
        self._provider = provider
        self._mode = mode
        self._people: dict[str, str] = {}  # by session

    def respond(self, request: Request) -> Answer:
        match request.path:
            case "/":
                name = self._people.get(request.cookie(SESSION))
                greeting = f"Hello, {html.escape(name)}" if name else "Who are you?"
                return Answer(f'<h1>{greeting}</h1><a href="/login">Sign in at the provider</a>')
            case "/login":
                return self._to_provider(request)
            case "/callback":
                return self._came_back(request)
        return Answer("not found", 404)

    def _to_provider(self, request: Request) -> Answer:
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        asked = {
            "response_type": "code",
            "response_mode": self._mode,
            "client_id": CLIENT,
            "scope": "openid",
            "redirect_uri": _callback(request),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
        # As such applications have to: without None it would not come back with the form either.
        cookie = f"{LOGIN}={state}.{nonce}.{verifier}; Path=/; Secure; HttpOnly; SameSite=None"
        where = f"{self._provider.issuer}/authorize?{urlencode(asked)}"
        return to(where, ("Set-Cookie", cookie))

    def _came_back(self, request: Request) -> Answer:
        told = request.form if request.method == "POST" else request.query
        state, _, rest = request.cookie(LOGIN).partition(".")
        nonce, _, verifier = rest.partition(".")
        if not state or told.get("state") != state:
            return Answer("<h1>Not what I asked for</h1>", 400)
        claims = self._redeem(told["code"], verifier, _callback(request))
        if claims["nonce"] != nonce:
            return Answer("<h1>Not what I asked for</h1>", 400)
        session = secrets.token_urlsafe(16)
        self._people[session] = claims["sub"]
        cookie = f"{SESSION}={session}; Path=/; Secure; HttpOnly; SameSite=Lax"
        return to("/", ("Set-Cookie", cookie))

    def _redeem(self, code: str, verifier: str, callback: str) -> dict[str, str]:
        """Change the code for the person's claims, verified with the provider's published key."""
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": callback,
            "code_verifier": verifier,
        }
        token = self._ask("POST", "/token", urlencode(fields), {"Authorization": f"Basic {basic}"})
        [key] = jwt.PyJWKSet.from_dict(self._ask("GET", "/keys")).keys
        claims: dict[str, str] = jwt.decode(
            token["id_token"],
            key,
            algorithms=["ES256"],
            audience=CLIENT,
            issuer=self._provider.issuer,
        )
        return claims

    def _ask(
        self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None
    ) -> dict[str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._provider.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            told: dict[str, str] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return told


def challenge(verifier: str) -> str:
    """Return what is shown of a PKCE verifier beforehand (RFC 7636 §4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@contextmanager
def open_provider() -> Iterator[Provider]:
    provider = Provider()
    with serve(provider.respond) as site:
        provider.port = site.port
        provider.issuer = f"http://login.localhost:{site.port}"
        yield provider


@contextmanager
def open_portal(provider: Provider, mode: ResponseMode) -> Iterator[Site]:
    with serve(Portal(provider, mode).respond) as site:
        yield site


def _callback(request: Request) -> str:
    return f"https://{request.headers['X-Forwarded-Host']}/callback"


def _form(action: str, fields: dict[str, str], button: str) -> str:
    inputs = "".join(
        f'<input name="{html.escape(name)}" aria-label="{html.escape(name)}"'
        f' type="{"text" if name == "username" else "hidden"}" value="{html.escape(value)}">'
        for name, value in fields.items()
    )
    return f'<form method="post" action="{html.escape(action)}">{inputs}<button>{button}</button></form>'
