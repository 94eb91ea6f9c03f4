"""docs/sso.md: its ten lines verify what an application is sent, and take nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from tport.engine.config.resources import read_resources
from tport.engine.pki.authority import Authority, new_authority
from tport.engine.pki.jwt import jwks, sign_app_token

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


def test_the_connector_that_the_page_shows_can_be_made() -> None:
    shown = next(part for part in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    found, notes = read_resources(shown, name="sso.md")
    assert (len(found), notes) == (1, ())
