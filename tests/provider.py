"""An identity provider without a network: OpenID Connect, or GitHub's way, strict about its client.

provider = FakeProvider("https://id.test")
query = provider.sign_in(url, sub="1", email="ann@x.test")    # as a browser that was sent to `url`
"""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tport.engine.errors import ConnectionProblem
from tport.engine.proto.oidc import ProviderAnswer, ProviderRequest

CLIENT, SECRET = "tport-client", "the client's secret"
GITHUB, GITHUB_API = "https://github.com", "https://api.github.com"


class FakeProvider:
    """Attributes:
    claims: added to, and instead of, what each ID token says; None: the claim is left out.
    forge: makes the ID token instead, of its claims; None: it is signed with our key.
    user_info: what user info says beside the claims.
    down: nothing is answered.
    asked: paths, in order.
    """

    def __init__(
        self, issuer: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.issuer = issuer
        self.now = now
        self.keys: dict[str, Any] = {"one": rsa.generate_private_key(65537, 2048)}
        self.algorithm = "RS256"
        self.claims: dict[str, Any] = {}
        self.forge: Callable[[dict[str, Any]], str] | None = None
        self.user_info: dict[str, Any] = {}
        self.down = False
        self.asked: list[str] = []
        self.discovery: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/keys",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "end_session_endpoint": f"{issuer}/logout",
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "authorization_response_iss_parameter_supported": True,
        }
        self._codes: dict[str, dict[str, Any]] = {}
        self._people: dict[str, dict[str, Any]] = {}  # by access token

    # --- What the browser does ---------------------------------------------------------------

    def sign_in(self, url: str, **person: Any) -> str:
        """Sign somebody in there; return the query with which the browser comes back."""
        asked = {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}
        assert asked["client_id"] == CLIENT
        assert asked["response_type"] == "code"
        assert "openid" in asked["scope"].split()
        code = f"code-{len(self._codes)}"
        self._codes[code] = {"asked": asked, "person": person}
        return urlencode({"state": asked["state"], "code": code, "iss": self.issuer})

    # --- What tport asks ---------------------------------------------------------------------

    async def __call__(self, request: ProviderRequest) -> ProviderAnswer:
        parts = urlsplit(request.url)
        if self.down or f"{parts.scheme}://{parts.netloc}" != self.issuer:
            raise ConnectionProblem("the identity provider can't be reached")
        self.asked.append(parts.path)
        match parts.path:
            case "/.well-known/openid-configuration":
                return _json(self.discovery)
            case "/keys":
                return _json({"keys": [self._public(kid) for kid in self.keys]})
            case "/token":
                return self._token(request)
            case "/userinfo":
                token = request.headers["Authorization"].removeprefix("Bearer ")
                return _json({**self._people[token], **self.user_info})
        return _json({"error": "not_found"}, 404)

    def _token(self, request: ProviderRequest) -> ProviderAnswer:
        form = dict(request.form or {})
        pair = b64decode(request.headers.get("Authorization", "Basic ").removeprefix("Basic "))
        if [unquote_plus(part) for part in pair.decode().split(":")] != [CLIENT, SECRET]:
            return _json({"error": "invalid_client"}, 401)
        known = self._codes.pop(form.get("code", ""), None)
        if known is None:
            return _json(
                {"error": "invalid_grant", "error_description": "used, or never given"}, 400
            )
        asked = known["asked"]
        if "code_challenge" in asked and asked["code_challenge"] != challenge(
            form["code_verifier"]
        ):
            return _json({"error": "invalid_grant", "error_description": "PKCE"}, 400)
        if form.get("redirect_uri") != asked["redirect_uri"]:
            return _json({"error": "invalid_grant", "error_description": "redirect_uri"}, 400)
        access = f"access-{len(self._people)}"
        self._people[access] = known["person"]
        claims = self.id_claims(asked.get("nonce", ""), **known["person"])
        token = self.forge(claims) if self.forge is not None else self.sign(claims)
        return _json({"id_token": token, "access_token": access, "token_type": "Bearer"})

    def id_claims(self, nonce: str = "", **person: Any) -> dict[str, Any]:
        now = int(self.now().timestamp())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "nonce": nonce,
            **person,
            **self.claims,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def sign(self, claims: dict[str, Any], kid: str = "one", **header: Any) -> str:
        """Sign a token with one of the keys."""
        return jwt.encode(claims, self.keys[kid], self.algorithm, headers={"kid": kid, **header})

    def _public(self, kid: str) -> dict[str, Any]:
        key = self.keys[kid].public_key()
        kind = (
            jwt.algorithms.ECAlgorithm
            if isinstance(key, ec.EllipticCurvePublicKey)
            else jwt.algorithms.RSAAlgorithm
        )
        found: dict[str, Any] = kind.to_jwk(key, as_dict=True)
        return {**found, "kid": kid, "use": "sig"}


class FakeGithub:
    """GitHub, and its API. `teams`: slugs of teams by organization."""

    def __init__(self, login: str = "octo", **teams: list[str]) -> None:
        self.login = login
        self.id = 583231
        self.teams = teams
        self._codes: dict[str, dict[str, str]] = {}

    def sign_in(self, url: str) -> str:
        assert url.startswith(f"{GITHUB}/login/oauth/authorize?")
        asked = dict(parse_qsl(urlsplit(url).query))
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked
        return urlencode({"state": asked["state"], "code": code})

    async def __call__(self, request: ProviderRequest) -> ProviderAnswer:
        parts = urlsplit(request.url)
        where = f"{parts.scheme}://{parts.netloc}{parts.path}"
        if where == f"{GITHUB}/login/oauth/access_token":
            form = dict(request.form or {})
            asked = self._codes.pop(form["code"], None)
            if asked is None or form["client_secret"] != SECRET:
                return _json({"error": "bad_verification_code", "error_description": "used"})
            if asked["code_challenge"] != challenge(form["code_verifier"]):
                return _json({"error": "bad_verification_code", "error_description": "PKCE"})
            return _json({"access_token": "gho_token", "scope": "read:org"})
        assert request.headers["Authorization"] == "Bearer gho_token"
        if where == f"{GITHUB_API}/user":
            return _json({"login": self.login, "id": self.id, "name": "Octo Cat", "email": None})
        query = dict(parse_qsl(parts.query))
        if where == f"{GITHUB_API}/user/orgs":
            return _page([{"login": name} for name in self.teams], query)
        if where == f"{GITHUB_API}/user/teams":
            teams = [
                {"slug": slug, "organization": {"login": name}}
                for name, slugs in self.teams.items()
                for slug in slugs
            ]
            return _page(teams, query)
        return _json({"message": "Not Found"}, 404)


def _page(items: list[dict[str, Any]], query: dict[str, str]) -> ProviderAnswer:
    """Answer as GitHub does: the first page of 30 unless something else is asked for, 100 at most."""
    size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
    return _json(items[(page - 1) * size : page * size])


def challenge(verifier: str) -> str:
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _json(value: object, status: int = 200) -> ProviderAnswer:
    return ProviderAnswer(status=status, body=json.dumps(value).encode())
