"""A stand-in for GitHub: its page that allows an application, and the API that tells of teams.

with open_github("octo", {"acme": ["devs"]}) as address:
    ...    # endpoint_url and api_endpoint_url of a connector

Source: docs.github.com, "Authorizing OAuth apps" and "REST API endpoints for teams".
"""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from html import escape
from urllib.parse import urlencode

from tests.e2e.site import Answer, Request, serve, to

CLIENT, SECRET = "tport-client", "a-secret-of-the-client"


class Github:
    """Knows one person. `teams`: their teams' slugs by organization."""

    def __init__(self, login: str, teams: Mapping[str, Sequence[str]]) -> None:
        self._login = login
        self._teams = teams
        self._codes: dict[str, dict[str, str]] = {}
        self._tokens: set[str] = set()

    def respond(self, request: Request) -> Answer:
        match request.method, request.path:
            case "GET", "/login/oauth/authorize":
                return Answer(_page(request.query))
            case "POST", "/login/oauth/authorize":
                code = secrets.token_hex(10)
                self._codes[code] = form = request.form
                query = urlencode({"code": code, "state": form["state"]})
                return to(f"{form['redirect_uri']}?{query}")
            case "POST", "/login/oauth/access_token":
                return self._token(request.form)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self._tokens:
            return _json({"message": "Bad credentials"}, 401)
        match request.path:
            case "/user":
                return _json({"login": self._login, "id": 583231, "name": None, "email": None})
            case "/user/orgs":
                return _json([{"login": name} for name in self._teams])
            case "/user/teams":
                return _json(
                    [
                        {"slug": slug, "organization": {"login": name}}
                        for name, slugs in self._teams.items()
                        for slug in slugs
                    ]
                )
        return _json({"message": "Not Found"}, 404)

    def _token(self, form: Mapping[str, str]) -> Answer:
        """Trade a code once. GitHub says with 200 that it won't."""
        asked = self._codes.pop(form.get("code", ""), None)
        proof = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or (form.get("client_id"), form.get("client_secret")) != (CLIENT, SECRET)
            or asked["code_challenge"] != proof.rstrip(b"=").decode()
        ):
            return _json({"error": "bad_verification_code"})
        token = f"gho_{secrets.token_hex(18)}"
        self._tokens.add(token)
        return _json({"access_token": token, "token_type": "bearer", "scope": "read:org"})


@contextmanager
def open_github(login: str, teams: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Serve it on loopback until the block ends; give its address."""
    with serve(Github(login, teams).respond) as site:
        yield site.url


def _page(query: Mapping[str, str]) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in query.items()
    )
    return (
        "<!doctype html><title>GitHub</title><form method=post action=/login/oauth/authorize>"
        f"{hidden}<button>Authorize tport</button></form>"
    )


def _json(value: object, status: int = 200) -> Answer:
    return Answer(json.dumps(value), status, "application/json")
