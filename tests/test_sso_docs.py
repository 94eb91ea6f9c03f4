"""docs/sso.md: its ten lines verify what an application is sent, and take nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from msgspec.structs import replace

from tests.engine.auth.sso.visits import sso_world
from tport.engine.config.resources import read_resources
from tport.engine.pki.authority import Authority, new_authority
from tport.engine.pki.jwt import jwks, sign_app_token
from tport.engine.proto.oidc import discovery_request
from tport.engine.types.connector import GithubConnector, OidcConnector, origin_of
from tport.engine.types.resource import GithubResource, OidcResource

PAGE = (Path(__file__).parents[1] / "docs" / "sso.md").read_text()
URI = "http://localhost:3000"


class _Keys:
    """PyJWKClient without a network."""

    def __init__(self, authority: Authority) -> None:
        self._set = jwt.PyJWKSet.from_dict(jwks(authority))

    def get_signing_key_from_jwt(self, token: str) -> jwt.PyJWK:
        return self._set[jwt.get_unverified_header(token)["kid"]]


def verifier(authority: Authority) -> Any:
    """Return the page's `caller`, which asks this authority for keys."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names: dict[str, Any] = {}
    exec(code, names)  # our own page
    names["KEYS"] = _Keys(authority)
    return names["caller"]


def token(authority: Authority, *, audience: str = URI, age: float = 0) -> str:
    now = datetime.now(UTC) - timedelta(seconds=age)
    return sign_app_token(
        authority,
        app="grafana",
        user="ann@x.test",
        roles=("access",),
        traits={"groups": ("dev",)},
        audience=audience,
        jti="1",
        now=now,
        expires=now + timedelta(minutes=5),
    )


def test_the_ten_lines_of_the_page_tell_who_is_calling_and_refuse_all_else() -> None:
    ours, others = (
        new_authority("jwt", "example", now=datetime.now(UTC), algorithm="ES256") for _ in range(2)
    )
    caller = verifier(ours)
    told = caller({"Teleport-Jwt-Assertion": token(ours)}, URI)
    assert (told["username"], told["traits"]["groups"]) == ("ann@x.test", ["dev"])

    for wrong in (
        token(ours, audience="http://localhost:9"),
        token(ours, age=3600),
        token(others),
        token(ours)[:-2] + "AA",
    ):
        with pytest.raises((jwt.PyJWTError, KeyError)):
            caller({"Teleport-Jwt-Assertion": wrong}, URI)


def presets() -> list[OidcConnector | GithubConnector]:
    """Return every connector that the page shows. Raises ConfigError: one can't be read."""
    found: list[OidcConnector | GithubConnector] = []
    for number, shown in enumerate(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)):
        read, notes = read_resources(shown, name=f"sso.md, block {number}")
        assert notes == ()
        for resource, where in read:
            assert isinstance(resource, OidcResource | GithubResource), where
            found.append(resource.connector)
    return found


def test_there_is_a_preset_for_each_provider_that_people_ask_for() -> None:
    names = [connector.name for connector in presets()]
    assert names == ["google", "okta", "entra", "keycloak", "authentik", "gitlab", "github"]


@pytest.mark.parametrize("connector", presets(), ids=lambda each: str(each.name))
async def test_a_preset_is_made_as_it_stands(connector: OidcConnector | GithubConnector) -> None:
    """With a secret in place of its file, which `tport create` reads where it runs."""
    assert connector.client_secret.startswith("file:///etc/tport/")
    ready = replace(connector, client_secret="s")
    async with sso_world(ready) as (world, _, _):
        choices = await world.proxy.sign_in_choices()
        assert [each.id for each in choices.connectors] == [origin_of(ready)]


def test_the_issuers_of_the_presets_are_those_that_providers_answer_by() -> None:
    """Discovery compares it to the letter: where a slash ends it is part of it."""
    asked = {
        each.name: discovery_request(each.issuer).url
        for each in presets()
        if isinstance(each, OidcConnector)
    }
    well_known = "/.well-known/openid-configuration"
    assert asked == {
        "google": f"https://accounts.google.com{well_known}",
        "okta": f"https://COMPANY.okta.com{well_known}",
        "entra": f"https://login.microsoftonline.com/TENANT_ID/v2.0{well_known}",
        "keycloak": f"https://HOST/realms/REALM{well_known}",
        "authentik": f"https://HOST/application/o/SLUG{well_known}",
        "gitlab": f"https://gitlab.com{well_known}",
    }
