"""Connectors as resources write them, Teleport's `oidc` and `github`: their shape, read and written. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from tport.engine.access.claims import check_mappings
from tport.engine.config.file import Section, Text, TextList
from tport.engine.config.in_force import duration
from tport.engine.config.resource_shape import Document
from tport.engine.config.words import parse_seconds
from tport.engine.errors import InvalidRequest
from tport.engine.types.connector import (
    GITHUB,
    GITHUB_API,
    ClaimMapping,
    Connector,
    GithubConnector,
    OidcConnector,
    TeamMapping,
    check_connector,
)

FILE: Final = "file://"  # what a client_secret begins with that lies in a file of the writer's

MAX_AGE: Final = 10 * 365 * 86400  # s; ten years: what is added to a time must fit one
NO_PROMPT: Final = "none"  # Teleport's word for asking the provider for nothing particular

Value = dict[str, Any]


class ClaimSpec(Section, frozen=True):
    claim: Text = ""
    value: Text = ""
    roles: TextList = ()


def _parse_age(text: str) -> float:
    if (seconds := parse_seconds(text)) > MAX_AGE:
        raise InvalidRequest(f"is too long: at most {MAX_AGE // 3600} h")
    return seconds


class OidcSpec(Section, frozen=True):
    issuer_url: Text = ""
    client_id: Text = ""
    client_secret: Text = ""
    redirect_url: TextList = ()
    display: Text = ""
    scope: TextList = ("email", "profile")
    claims_to_roles: tuple[ClaimSpec, ...] = ()
    username_claim: Text = "email"
    prompt: Text = "select_account"
    acr_values: TextList = ()
    max_age: Annotated[float, _parse_age] = 0.0
    pkce_mode: Literal["enabled", "disabled"] = "enabled"
    allow_unverified_email: bool = False
    cluster_second_factor: bool = False

    without_effect = frozenset(
        {"provider", "client_redirect_settings", "user_matchers", "request_object_mode"}
    )
    refused = {
        "mfa": "is Teleport's; ours on top of the provider's: cluster_second_factor: yes",
        "google_service_account": "is not supported: have the provider put groups into claims",
        "google_service_account_uri": "is not supported: have the provider put groups into claims",
        "google_admin_email": "is not supported: have the provider put groups into claims",
    }


class OidcDocument(Document, frozen=True):
    version: Literal["v2", "v3"] = "v3"
    spec: OidcSpec = OidcSpec()


class TeamSpec(Section, frozen=True):
    organization: Text = ""
    team: Text = ""
    roles: TextList = ()


class GithubSpec(Section, frozen=True):
    client_id: Text = ""
    client_secret: Text = ""
    redirect_url: TextList = ()
    display: Text = ""
    teams_to_roles: tuple[TeamSpec, ...] = ()
    endpoint_url: Text = GITHUB
    api_endpoint_url: Text = GITHUB_API
    cluster_second_factor: bool = False

    without_effect = frozenset({"client_redirect_settings", "user_matchers"})
    refused = {"teams_to_logins": "is Teleport's old spelling; write teams_to_roles"}


class GithubDocument(Document, frozen=True):
    version: Literal["v3"] = "v3"
    spec: GithubSpec = GithubSpec()


def oidc_connector(document: OidcDocument, *, has_max_age: bool) -> OidcConnector:
    """Return the connector that a document means.

    Args:
        has_max_age: the document has one; of `0s`, too, which is no age at all.

    Raises:
        InvalidRequest: it can't be meant; begins with the field.
    """
    spec = document.spec
    connector = OidcConnector(
        name=document.metadata.name,
        display=spec.display,
        issuer=spec.issuer_url,
        client_id=spec.client_id,
        client_secret=spec.client_secret,
        redirect_urls=spec.redirect_url,
        scope=tuple(dict.fromkeys(word for word in spec.scope if word != "openid")),
        claims_to_roles=tuple(
            ClaimMapping(claim=each.claim, value=each.value, roles=each.roles)
            for each in spec.claims_to_roles
        ),
        username_claim=spec.username_claim,
        prompt="" if spec.prompt == NO_PROMPT else spec.prompt,
        acr_values=tuple(word for value in spec.acr_values for word in value.split()),
        max_age=timedelta(seconds=int(spec.max_age)) if has_max_age else None,
        pkce=spec.pkce_mode == "enabled",
        allow_unverified_email=spec.allow_unverified_email,
        cluster_second_factor=spec.cluster_second_factor,
    )
    check_connector(connector)
    check_mappings(connector.claims_to_roles)
    return connector


def github_connector(document: GithubDocument) -> GithubConnector:
    """As `oidc_connector`."""
    spec = document.spec
    connector = GithubConnector(
        name=document.metadata.name,
        display=spec.display,
        client_id=spec.client_id,
        client_secret=spec.client_secret,
        redirect_urls=spec.redirect_url,
        teams_to_roles=tuple(
            TeamMapping(organization=each.organization, team=each.team, roles=each.roles)
            for each in spec.teams_to_roles
        ),
        endpoint=spec.endpoint_url.rstrip("/"),
        api_endpoint=spec.api_endpoint_url.rstrip("/"),
        cluster_second_factor=spec.cluster_second_factor,
    )
    check_connector(connector)
    return connector


def connector_spec(connector: Connector) -> Value:
    """Return `spec` of a connector: what it must have, and what differs from the defaults."""
    if isinstance(connector, OidcConnector):
        spec = _oidc_spec(connector)
    else:
        spec = _github_spec(connector)
    if connector.client_secret:
        spec["client_secret"] = connector.client_secret
    if connector.redirect_urls:
        spec["redirect_url"] = list(connector.redirect_urls)
    if connector.display:
        spec["display"] = connector.display
    if connector.cluster_second_factor:
        spec["cluster_second_factor"] = True
    return spec


def _oidc_spec(connector: OidcConnector) -> Value:
    plain = OidcConnector(name="", issuer="", client_id="")
    spec: Value = {
        "issuer_url": connector.issuer,
        "client_id": connector.client_id,
        "claims_to_roles": [
            {"claim": each.claim, "value": each.value, "roles": list(each.roles)}
            for each in connector.claims_to_roles
        ],
    }
    if connector.prompt != plain.prompt:
        spec["prompt"] = connector.prompt or NO_PROMPT
    for name in ("username_claim", "allow_unverified_email"):
        if (value := getattr(connector, name)) != getattr(plain, name):
            spec[name] = value
    if connector.scope != plain.scope:
        spec["scope"] = list(connector.scope)
    if connector.acr_values:
        spec["acr_values"] = " ".join(connector.acr_values)
    if connector.max_age is not None:
        spec["max_age"] = duration(connector.max_age.total_seconds())
    if not connector.pkce:
        spec["pkce_mode"] = "disabled"
    return spec


def _github_spec(connector: GithubConnector) -> Value:
    spec: Value = {
        "client_id": connector.client_id,
        "teams_to_roles": [
            {"organization": each.organization, "team": each.team, "roles": list(each.roles)}
            for each in connector.teams_to_roles
        ],
    }
    if connector.endpoint != GITHUB:
        spec["endpoint_url"] = connector.endpoint
    if connector.api_endpoint != GITHUB_API:
        spec["api_endpoint_url"] = connector.api_endpoint
    return spec
