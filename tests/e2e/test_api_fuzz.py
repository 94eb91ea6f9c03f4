"""The JSON API against its own description: no answer that it doesn't name, whatever is sent.

schemathesis makes the requests from `/v1/openapi.json`, well-formed and not, and judges the answers.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.e2e.harness import Cluster
from tport.engine.api.protocol import RULES
from tport.engine.web.json_api import openapi

pytestmark = pytest.mark.e2e

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
EXAMPLES = 8  # a call, kind of data and person; each is a connection of its own

DESCRIPTION = json.loads(msgspec.json.encode(openapi("cookie")))
del DESCRIPTION["security"]  # who sends is the test's to say
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
BROWSER = {"Sec-Fetch-Site": "same-origin", "Accept": "application/json"}


@pytest.fixture(autouse=True)
def localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find `*.localhost` at this machine, as browsers do, where the system's resolver doesn't."""
    real = socket.getaddrinfo

    def found(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = "127.0.0.1" if str(host).endswith(".localhost") else host
        return real(name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.fixture(scope="module")
def people(cluster: Cluster) -> dict[str, dict[str, str]]:
    """Cookies by who sends: nobody, and somebody who may do everything."""
    person = cluster.signed_in("fuzz", "editor,auditor")
    return {"nobody": {}, "somebody": dict(person.cookies["tport.localhost"])}


@pytest.mark.parametrize("who", ["nobody", "somebody"])
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
@pytest.mark.parametrize("call", sorted(RULES))
def test_no_answer_is_other_than_described(
    cluster: Cluster, people: dict[str, dict[str, str]], call: str, mode: GenerationMode, who: str
) -> None:
    operation = SCHEMA[f"/v1/{call}"]["POST"]
    authority: Path = cluster.folder / "web-ca.pem"
    session = requests.Session()
    session.trust_env = False

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case[Any]) -> None:
        response = case.call(
            base_url=cluster.url,
            session=session,
            headers=BROWSER,
            cookies=people[who],
            verify=str(authority),
        )
        case.validate_response(response, checks=CHECKS)
        assert who == "somebody" or response.status_code in (400, 401, 413, 415)

    ask()
