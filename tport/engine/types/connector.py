"""Connectors: identity providers that people may sign in with. Teleport's kinds `oidc` and `github`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from tport.engine.errors import InvalidRequest

ConnectorKind = Literal["oidc", "github"]
CONNECTOR_KINDS: Final[tuple[ConnectorKind, ...]] = ("oidc", "github")

MAX_MAPPINGS: Final = 500  # of one connector
MAX_SECRET: Final = 1024  # characters; providers' have some 40
GITHUB: Final = "https://github.com"
GITHUB_API: Final = "https://api.github.com"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]", re.IGNORECASE)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class ClaimMapping(msgspec.Struct, frozen=True, kw_only=True):
    """Who has this value in this claim gets these roles.

    Attributes:
        value: a literal, a glob (`eng-*`) or a `^regular expression$`; what its groups found
            stands in `roles` as `$1`, `${1}`.
    """

    claim: str
    value: str
    roles: tuple[str, ...]


class TeamMapping(msgspec.Struct, frozen=True, kw_only=True):
    """Who is in this team of this organization on GitHub gets these roles.

    Attributes:
        team: its slug; `*`: whoever is in the organization.
    """

    organization: str
    team: str
    roles: tuple[str, ...]


class OidcConnector(msgspec.Struct, frozen=True, kw_only=True, tag="oidc"):
    """A provider that speaks OpenID Connect.

    Attributes:
        name: stands in addresses, and in the origin of its users: `oidc/<name>`.
        display: on the button; "": the name.
        issuer: exactly what its tokens say in `iss`.
        client_secret: where it is stored, sealed; "": shown to somebody, or a public client's.
        redirect_urls: where it may send browsers back to; none: this cluster's own address.
        scope: asked for beside `openid`.
        username_claim: whose value names the user here.
        prompt: what the provider is to ask for; "": what it thinks right.
        acr_values: one of these must be what the provider says of how it knew the person; then
            no second factor of ours is asked for. None: whatever it says.
        max_age: how old the sign-in at the provider may be; None: as it likes.
        pkce: whether RFC 7636 is used. Off only for providers that refuse it.
        allow_unverified_email: whether an address that it doesn't vouch for may name a user.
        cluster_second_factor: whether ours is asked for, on top of what the provider does.
    """

    name: str
    display: str = ""
    issuer: str
    client_id: str
    client_secret: str = ""
    redirect_urls: tuple[str, ...] = ()
    scope: tuple[str, ...] = ("email", "profile")
    claims_to_roles: tuple[ClaimMapping, ...] = ()
    username_claim: str = "email"
    prompt: str = "select_account"
    acr_values: tuple[str, ...] = ()
    max_age: timedelta | None = None
    pkce: bool = True
    allow_unverified_email: bool = False
    cluster_second_factor: bool = False

    def __repr__(self) -> str:
        return f"OidcConnector({self.name})"


class GithubConnector(msgspec.Struct, frozen=True, kw_only=True, tag="github"):
    """GitHub, or a GitHub Enterprise server.

    Attributes:
        endpoint: where people sign in; api_endpoint: where their teams are asked for.
        Others: as an OidcConnector's.
    """

    name: str
    display: str = ""
    client_id: str
    client_secret: str = ""
    redirect_urls: tuple[str, ...] = ()
    teams_to_roles: tuple[TeamMapping, ...] = ()
    endpoint: str = GITHUB
    api_endpoint: str = GITHUB_API
    cluster_second_factor: bool = False

    def __repr__(self) -> str:
        return f"GithubConnector({self.name})"


Connector = OidcConnector | GithubConnector


def kind_of_connector(connector: Connector) -> ConnectorKind:
    return "oidc" if isinstance(connector, OidcConnector) else "github"


def origin_of(connector: Connector) -> str:
    """Return what `User.origin` says of whom it proves."""
    return f"{kind_of_connector(connector)}/{connector.name}"


def issuer_of(connector: Connector) -> str:
    """Return the address that a provider is known by."""
    return connector.issuer if isinstance(connector, OidcConnector) else connector.endpoint


def check_connector(connector: Connector) -> None:
    """Return when a connector can be meant; its mappings' patterns are judged by `access.claims`.

    Raises:
        InvalidRequest: naming the field as the resource does.
    """
    if not _NAME.fullmatch(connector.name):
        raise InvalidRequest(
            f"metadata.name: {connector.name[:80]!r} is no connector's name (a-z, 0-9, '-'; at most 63)"
        )
    if not connector.display.isprintable() or len(connector.display) > 80:
        raise InvalidRequest("spec.display: expected at most 80 printable characters")
    if not connector.client_id or len(connector.client_id) > 255:
        raise InvalidRequest("spec.client_id: is missing or longer than 255 characters")
    if len(connector.client_secret) > MAX_SECRET:
        raise InvalidRequest(f"spec.client_secret: is longer than {MAX_SECRET} characters")
    own = callback_path(connector)
    for url in connector.redirect_urls:
        check_provider_url(url, "spec.redirect_url")
        if urlsplit(url).path not in (own, own.rpartition("/")[0]):
            raise InvalidRequest(
                f"spec.redirect_url: {url[:200]!r} leads elsewhere: browsers come back to {own}"
            )
    if isinstance(connector, OidcConnector):
        _check_oidc(connector)
    else:
        _check_github(connector)


def _check_oidc(connector: OidcConnector) -> None:
    check_provider_url(connector.issuer, "spec.issuer_url")
    if not connector.username_claim:
        raise InvalidRequest("spec.username_claim: which claim names the user?")
    if not connector.claims_to_roles:
        raise InvalidRequest(
            "spec.claims_to_roles: is empty, so nobody could sign in",
            hint="for everybody: [{claim: sub, value: '*', roles: [access]}]",
        )
    _check_mappings("spec.claims_to_roles", connector.claims_to_roles)
    for word in (*connector.scope, *connector.acr_values, *connector.prompt.split(" ")):
        if not word.isascii() or not word.isprintable() or " " in word or '"' in word:
            raise InvalidRequest(f"{word[:80]!r} is no word that a provider could be asked for")
    if connector.max_age is not None and connector.max_age < timedelta():
        raise InvalidRequest("spec.max_age: expected 0s or more")


def _check_github(connector: GithubConnector) -> None:
    check_provider_url(connector.endpoint, "spec.endpoint_url")
    check_provider_url(connector.api_endpoint, "spec.api_endpoint_url")
    if not connector.teams_to_roles:
        raise InvalidRequest("spec.teams_to_roles: is empty, so nobody could sign in")
    _check_mappings("spec.teams_to_roles", connector.teams_to_roles)


def _check_mappings(where: str, mappings: Sequence[ClaimMapping | TeamMapping]) -> None:
    if len(mappings) > MAX_MAPPINGS:
        raise InvalidRequest(f"{where}: more than {MAX_MAPPINGS}")
    for index, mapping in enumerate(mappings):
        if not mapping.roles or not all(mapping.roles):
            raise InvalidRequest(f"{where}[{index}].roles: is empty")
        for field in mapping.__struct_fields__:
            if getattr(mapping, field) == "":
                raise InvalidRequest(f"{where}[{index}].{field}: is empty")


def check_provider_url(url: str, field: str) -> str:
    """Return an address that a provider may have: HTTPS, or HTTP on this very machine.

    Raises:
        InvalidRequest: naming `field`.
    """
    wrong = InvalidRequest(f"{field}: {url[:200]!r} is no https:// address")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise wrong
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    host = parts.hostname or ""
    if parts.username is not None or not _HOST.fullmatch(host if ":" not in host else f"[{host}]"):
        raise wrong
    if port == 0 or parts.query or parts.fragment:
        raise InvalidRequest(f"{field}: expected no query, no fragment and no port 0")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise InvalidRequest(
            f"{field}: {url[:200]!r} is not https://, so that anybody on the way could be anybody here"
        )
    return url


def callback_path(connector: Connector) -> str:
    """Return the path that browsers come back to, of this connector alone.

    Teleport's, without the name, works too for one connector of a kind.
    """
    return f"/v1/webapi/{kind_of_connector(connector)}/callback/{connector.name}"


def callback_paths(connector: Connector) -> frozenset[str]:
    """Return every path that browsers come back to from its provider."""
    paths = frozenset(urlsplit(url).path for url in connector.redirect_urls)
    return paths or frozenset({callback_path(connector)})


def redirect_url_of(connector: Connector, address: str) -> str:
    """Return where the provider sends a browser back to that came to `address`, `host[:port]`.

    The one of the connector's whose host is that, else the first, else one of our own, which no
    other connector has: another provider's answer comes elsewhere (RFC 9700 §4.4.2.2).
    """
    host = address.removesuffix(":443")
    if not connector.redirect_urls:
        return f"https://{host}{callback_path(connector)}"
    for url in connector.redirect_urls:
        if urlsplit(url).netloc.removesuffix(":443") == host:
            return url
    return connector.redirect_urls[0]


Claims = Mapping[str, object]
