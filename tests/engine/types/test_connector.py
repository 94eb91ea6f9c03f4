"""Connectors: what can be meant, and where browsers are sent back to."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from tport.engine.errors import InvalidRequest
from tport.engine.types.connector import (
    ClaimMapping,
    Connector,
    GithubConnector,
    OidcConnector,
    TeamMapping,
    callback_path,
    check_connector,
    check_provider_url,
    redirect_url_of,
)

OIDC = OidcConnector(
    name="google",
    issuer="https://id.test/realms/x",
    client_id="c",
    claims_to_roles=(ClaimMapping(claim="a", value="b", roles=("access",)),),
)
GITHUB = GithubConnector(
    name="octo",
    client_id="c",
    teams_to_roles=(TeamMapping(organization="a", team="b", roles=("access",)),),
)


@pytest.mark.parametrize("connector", [OIDC, GITHUB])
def test_a_plain_one_can_be_meant(connector: Connector) -> None:
    check_connector(connector)


@pytest.mark.parametrize(
    ("connector", "field"),
    [
        (replace(OIDC, name="Google"), "metadata.name"),
        (replace(OIDC, name="a/b"), "metadata.name"),
        (replace(OIDC, name=""), "metadata.name"),
        (replace(OIDC, client_id=""), "client_id"),
        (replace(OIDC, display="a\nb"), "display"),
        (replace(OIDC, client_secret="x" * 2000), "client_secret"),
        (replace(OIDC, issuer="http://id.test"), "issuer_url"),
        (replace(OIDC, issuer=""), "issuer_url"),
        (replace(OIDC, redirect_urls=(f"http://x.test{callback_path(OIDC)}",)), "redirect_url"),
        (replace(OIDC, redirect_urls=("https://x.test/cb",)), "leads elsewhere"),
        (replace(OIDC, redirect_urls=("https://x.test",)), "leads elsewhere"),
        (replace(OIDC, redirect_urls=(f"https://x.test{callback_path(GITHUB)}",)), "elsewhere"),
        (replace(OIDC, redirect_urls=(f"https://x.test{callback_path(OIDC)}2",)), "elsewhere"),
        (replace(OIDC, username_claim=""), "username_claim"),
        (replace(OIDC, claims_to_roles=()), "claims_to_roles"),
        (
            replace(OIDC, claims_to_roles=(ClaimMapping(claim="", value="b", roles=("r",)),)),
            "claim",
        ),
        (replace(OIDC, claims_to_roles=(ClaimMapping(claim="a", value="b", roles=()),)), "roles"),
        (replace(OIDC, claims_to_roles=OIDC.claims_to_roles * 501), "more than 500"),
        (replace(OIDC, scope=("a b",)), "no word"),
        (replace(OIDC, prompt="login\r\nX: y"), "no word"),
        (replace(OIDC, max_age=timedelta(seconds=-1)), "max_age"),
        (replace(GITHUB, teams_to_roles=()), "teams_to_roles"),
        (replace(GITHUB, endpoint="ftp://x"), "endpoint_url"),
        (replace(GITHUB, api_endpoint="https://u:p@x.test"), "api_endpoint_url"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_meant_is_refused_with_its_field(connector: Connector, field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        check_connector(connector)


@pytest.mark.parametrize("url", ["https://id.test", "https://id.test:8443/x", "http://127.0.0.1:9/", "http://[::1]:9"])  # fmt: skip
def test_an_address_is_https_or_on_this_machine(url: str) -> None:
    assert check_provider_url(url, "f") == url


@pytest.mark.parametrize(
    "url",
    [
        "http://id.test",
        "http://127.0.0.1.evil.test",
        "http://localhost.evil.test",
        "https://",
        "https:id.test",
        "https://id.test\\@evil.test",
        "https://a@id.test",
        "https://id.test:0",
        "https://id.test:99999",
        "https://id.test/?x",
        "https://id.test/#x",
        "https://id.test/ x",
        "https://idé.test",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "",
    ],
)
def test_no_other_address_is_a_providers(url: str) -> None:
    with pytest.raises(InvalidRequest, match="f: "):
        check_provider_url(url, "f")


def test_browsers_come_back_to_an_address_of_the_connectors_own() -> None:
    assert redirect_url_of(OIDC, "x.test") == "https://x.test/v1/webapi/oidc/callback/google"
    assert redirect_url_of(OIDC, "x.test:443") == "https://x.test/v1/webapi/oidc/callback/google"
    assert redirect_url_of(GITHUB, "x.test:3080") == (
        "https://x.test:3080/v1/webapi/github/callback/octo"
    )


def test_of_several_the_one_is_taken_whose_host_people_came_to() -> None:
    urls = tuple(f"https://{host}{callback_path(OIDC)}" for host in ("a.test", "b.test:3080"))
    several = replace(OIDC, redirect_urls=urls)
    assert redirect_url_of(several, "b.test:3080") == urls[1]
    assert redirect_url_of(several, "a.test:443") == urls[0]
    assert redirect_url_of(several, "c.test") == urls[0]


def test_no_secret_stands_in_what_is_shown_of_one() -> None:
    assert "hush" not in repr(replace(OIDC, client_secret="hush"))
    assert "hush" not in repr(replace(GITHUB, client_secret="hush"))
