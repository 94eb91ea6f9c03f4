"""GitHub's sign-in as messages: OAuth 2.0's code flow, and its REST API for who and which teams. Sans-IO.

Source: docs.github.com, "Authorizing OAuth apps", "List teams for the authenticated user".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from tport.engine.proto.oidc import (
    ProviderAnswer,
    ProviderProblem,
    ProviderRequest,
    challenge_of,
    decoded,
    printable,
    with_query,
)
from tport.engine.types.connector import GithubConnector

PER_PAGE: Final = 100
MAX_PAGES: Final = 20  # of organizations, and of teams; 2,000 of them are nobody's
SCOPE: Final = "read:org"
_VERSION: Final = "2022-11-28"  # of the API

Name = Annotated[str, Meta(max_length=256)]


class GithubUser(msgspec.Struct, frozen=True, kw_only=True):
    login: Name
    id: int
    name: Name | None = None
    email: Name | None = None


class _Organization(msgspec.Struct, frozen=True):
    login: Name


class _Team(msgspec.Struct, frozen=True):
    slug: Name
    organization: _Organization


class _Token(msgspec.Struct, frozen=True, kw_only=True):
    access_token: str = ""
    error: str = ""
    error_description: str = ""


def authorization_url(
    connector: GithubConnector, *, redirect_url: str, state: str, verifier: str
) -> str:
    query = {
        "client_id": connector.client_id,
        "redirect_uri": redirect_url,
        "scope": SCOPE,
        "state": state,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        "allow_signup": "false",
    }
    return with_query(f"{connector.endpoint}/login/oauth/authorize", query)


def token_request(
    connector: GithubConnector, *, code: str, redirect_url: str, verifier: str
) -> ProviderRequest:
    form = {
        "client_id": connector.client_id,
        "client_secret": connector.client_secret,
        "code": code,
        "redirect_uri": redirect_url,
        "code_verifier": verifier,
    }
    return ProviderRequest(
        method="POST",
        url=f"{connector.endpoint}/login/oauth/access_token",
        form=form,
        headers={"Accept": "application/json"},
    )


def read_token(answer: ProviderAnswer) -> str:
    """Return the access token. GitHub says with 200 that it gives none.

    Raises:
        ProviderProblem: with GitHub's words.
    """
    token = decoded(answer, _Token, "a token")
    if not token.access_token or not token.access_token.isascii():
        why = printable(token.error_description or token.error) or "no reason given"
        raise ProviderProblem(f"GitHub gave no token: {why}")
    return token.access_token


def api_request(connector: GithubConnector, path: str, token: str) -> ProviderRequest:
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": _VERSION,
    }
    return ProviderRequest(method="GET", url=f"{connector.api_endpoint}{path}", headers=headers)


def user_request(connector: GithubConnector, token: str) -> ProviderRequest:
    return api_request(connector, "/user", token)


def read_user(answer: ProviderAnswer) -> GithubUser:
    return decoded(answer, GithubUser, "who the person is")


def teams_request(connector: GithubConnector, token: str, page: int) -> ProviderRequest:
    """`page`: from 1."""
    return api_request(connector, f"/user/teams?per_page={PER_PAGE}&page={page}", token)


def read_teams(answer: ProviderAnswer) -> list[tuple[str, str]]:
    """Return `(organization, team's slug)` of a page; fewer than PER_PAGE: it is the last."""
    teams = decoded(answer, list[_Team], "the person's teams")
    return [(team.organization.login, team.slug) for team in teams]


def organizations_request(connector: GithubConnector, token: str, page: int) -> ProviderRequest:
    """`page`: from 1."""
    return api_request(connector, f"/user/orgs?per_page={PER_PAGE}&page={page}", token)


def read_organizations(answer: ProviderAnswer) -> list[str]:
    """Return the organizations' names of a page; as `read_teams`."""
    found = decoded(answer, list[_Organization], "the person's organizations")
    return [each.login for each in found]


def claims_of(
    user: GithubUser, organizations: Sequence[str], teams: Sequence[tuple[str, str]]
) -> dict[str, object]:
    """Return what becomes of a person's traits; teams as `organization/team`."""
    claims: dict[str, object] = {
        "login": user.login,
        "logins": [user.login],
        "github_orgs": list(organizations),
        "github_teams": [f"{organization}/{team}" for organization, team in teams],
    }
    claims |= {"name": user.name} if user.name else {}
    claims |= {"email": user.email} if user.email else {}
    return claims
