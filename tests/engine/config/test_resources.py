"""Resources as text: read with places, written as they are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.config.kinds import KINDS, Reference, parse_reference, parse_references
from tport.engine.config.resource_text import json_text, resource_value, yaml_text
from tport.engine.config.resources import read_resources
from tport.engine.errors import ConfigError, InvalidRequest, TportError
from tport.engine.types.app import (
    KEPT,
    App,
    AppServer,
    Cors,
    Header,
    Rewrite,
    Timeouts,
    UpstreamTls,
)
from tport.engine.types.connector import (
    ClaimMapping,
    GithubConnector,
    OidcConnector,
    TeamMapping,
)
from tport.engine.types.factor import OFF, ON, FactorPolicy, Factors, TotpDevice, WebauthnDevice
from tport.engine.types.lock import Lock, LockTarget
from tport.engine.types.preference import Preference
from tport.engine.types.resource import (
    PREFERENCE,
    AppResource,
    AppServerResource,
    AuthorityResource,
    GithubResource,
    LockResource,
    OidcResource,
    PreferenceResource,
    Resource,
    RoleResource,
    TokenResource,
    UserResource,
    UserSecrets,
)
from tport.engine.types.role import Conditions, Role, RoleOptions, Rule
from tport.engine.types.token import JoinToken, token_id
from tport.engine.types.user import User

SECRET = "0123456789abcdef0123456789abcdef"
LATER = datetime(2027, 1, 1, 12, 30, 15, 250_000, tzinfo=UTC)


def read(text: str) -> list[Resource]:
    return [each.resource for each in read_resources(text, name="x.yaml")[0]]


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read_resources(text, name="x.yaml")
    return str(refused.value).splitlines()


WHOLE: list[Resource] = [
    PreferenceResource(
        preference=Preference(
            second_factor=FactorPolicy.from_word("optional"), web_idle_timeout=5400
        ),
        rp_id="example.com",
        revision="0",
    ),
    RoleResource(
        role=Role(
            name="dev",
            version="v5",
            description="Developers: yes, no, 1.10",
            allow=Conditions(
                app_labels={"env": ("dev", "st*"), "team": ("{{external.team}}",)},
                rules=(Rule(("session",), ("list", "read")),),
            ),
            deny=Conditions(app_labels={"secret": ("^.*$",)}),
            options=RoleOptions(max_session_ttl=timedelta(hours=1, minutes=2, seconds=3)),
            other={"spec.options": {"forward_agent": True}, "metadata": {"labels": {"a": "b"}}},
        ),
        revision="12",
    ),
    UserResource(
        user=User(
            name="ann@x.test",
            roles=("dev",),
            traits={"groups": ("dev",)},
            origin="oidc/google",
            subject="https://id.test\0a b",
        )
    ),
    UserResource(
        user=User(name="alice", roles=("dev",), traits={"logins": ("root", "no"), "n": ("1",)}),
        secrets=UserSecrets(
            id="an-id",
            password_hash="$argon2id$v=19$x",
            password_changed=LATER,
            factors=Factors(
                user_id="an-id",
                devices=(
                    TotpDevice(id="1", name="phone", added=LATER, secret="c2VjcmV0", step=7),
                    WebauthnDevice(
                        id="2",
                        name="yes",
                        added=LATER,
                        used=LATER,
                        credential="abc",
                        public_key="1_0",
                        rp_id="example.com",
                        sign_count=4_000_000_000,
                    ),
                ),
                recovery=("0" * 64, "1" * 64),
            ),
        ),
        revision="7",
    ),
    TokenResource(
        token=JoinToken(
            id=token_id(SECRET), hint=SECRET[:8], app_name="grafana", max_uses=2, expires=LATER
        )
    ),
    AppResource(
        app=App(
            name="grafana",
            uri="https://localhost:3000/x",
            public_addr="g.example.com",
            description="Graphs",
            labels={"env": "dev"},
            insecure_skip_verify=True,
            rewrite=Rewrite(
                redirect=("localhost",),
                headers=(Header("X-Team", "{{external.team}}"), Header("X-Empty", "")),
                jwt_claims="none",
            ),
            tls=UpstreamTls(server_name="g.internal"),
            timeouts=Timeouts(connect=5, response_head=2.5, idle=0),
            cookie_same_site="none",
            cors=Cors(allowed_origins=("https://a.example.com",), max_age=60),
            required_apps=("api",),
            group="tools",
            session_notice=True,
        )
    ),
    LockResource(lock=Lock(name="l1", target=LockTarget(user="alice"), message="x", expires=LATER)),
    LockResource(lock=Lock(name="l2", target=LockTarget(server_id="agent-1"))),
    OidcResource(
        connector=OidcConnector(
            name="google",
            display="Google",
            issuer="https://id.test/x",
            client_id="c",
            client_secret="s",
            redirect_urls=(
                "https://a.test/v1/webapi/oidc/callback",
                "https://b.test/v1/webapi/oidc/callback/google",
            ),
            scope=("email", "groups"),
            claims_to_roles=(
                ClaimMapping(claim="groups", value="^team-(.*)$", roles=("$1", "access")),
            ),
            username_claim="upn",
            prompt="",
            acr_values=("phr", "mfa"),
            max_age=timedelta(hours=1),
            pkce=False,
            allow_unverified_email=True,
            cluster_second_factor=True,
        ),
        revision="3",
    ),
    GithubResource(
        connector=GithubConnector(
            name="octo",
            client_id="c",
            teams_to_roles=(TeamMapping(organization="acme", team="*", roles=("access",)),),
            endpoint="https://github.example.com",
            api_endpoint="https://github.example.com/api/v3",
        )
    ),
    AuthorityResource(
        name="jwt",
        spec={
            "kind": "jwt",
            "cluster": "main",
            "generation": 2,
            "key": "-----BEGIN X-----\nabc\n-----END X-----\n",
            "trusted": ["-----BEGIN Y-----\n" + "a" * 300 + "\n"],
        },
    ),
]


@pytest.mark.parametrize("write", [yaml_text, json_text], ids=["yaml", "json"])
def test_what_is_written_reads_as_the_same(write: Callable[[list[Resource]], str]) -> None:
    assert read(write(WHOLE)) == WHOLE


@pytest.mark.parametrize("write", [yaml_text, json_text], ids=["yaml", "json"])
@pytest.mark.parametrize(
    "text",
    [
        "é\u202e\x7f",
        "\x9b2J",
        "\x85 \u2066\u200b " * 30,
        "😀\U0001f3f4\U000e0067",
        "\\ud83d\\ude00",
    ],
)
def test_characters_that_are_escaped_read_as_the_same(
    write: Callable[[list[Resource]], str], text: str
) -> None:
    resources: list[Resource] = [
        AppResource(app=App(name="a", uri="http://localhost:1", description=text))
    ]

    assert read(write(resources)) == resources


def test_teleport_s_own_examples_are_taken() -> None:
    """Of its reference and guides, as they stand there."""
    role, user, token, app, lock = read(
        """\
kind: role
version: v7
metadata:
  name: dev
spec:
  options:
    max_session_ttl: 30h0m0s
    forward_agent: true
    port_forwarding: true
  allow:
    logins: ['{{internal.logins}}']
    node_labels: {'*': '*'}
    app_labels:
      'env': 'dev'
---
kind: user
metadata:
  expires: "0001-01-01T00:00:00Z"
  name: Joe
spec:
  created_by:
    time: "2023-07-21T20:32:27.111Z"
    user: {name: admin}
  expires: "0001-01-01T00:00:00Z"
  roles: [access]
  status:
    is_locked: false
  traits:
    logins: [joe, root]
version: v2
---
kind: token
version: v2
metadata:
  name: 0123456789abcdef0123456789abcdef
  expires: "2027-01-01T00:00:00Z"
spec:
  roles: [App]
---
kind: app
version: v3
metadata:
  name: grafana
  description: Example app
  labels:
    env: test
spec:
  uri: http://localhost:3000
  public_addr: grafana.example.com
  insecure_skip_verify: false
  rewrite:
    redirect: [localhost]
    headers:
    - name: X-Custom
      value: x
    - "X-Line: y"
---
kind: lock
version: v2
metadata: {name: d5b0ec5e-c3a0-4cd3-9c5e-f7e1a6f0b8ba}
spec:
  target: {node: 5a4f5a3c-6a8a-4a0f-8b7a-111111111111}
  message: Suspicious activity.
  expires: null
"""
    )

    assert isinstance(role, RoleResource)
    assert role.role.allow.app_labels == {"env": ("dev",)}
    assert isinstance(user, UserResource)
    assert (user.user.name, user.user.roles) == ("joe", ("access",))
    assert isinstance(token, TokenResource)
    assert token.token.id == token_id(SECRET)
    assert isinstance(app, AppResource)
    assert app.app.rewrite.headers == (Header("X-Custom", "x"), Header("X-Line", "y"))
    assert isinstance(lock, LockResource)
    assert lock.lock.target.server_id == "5a4f5a3c-6a8a-4a0f-8b7a-111111111111"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "x.yaml: there is no resource in it"),
        ("---\n...\n", "x.yaml: there is no resource in it"),
        ("a: [", "x.yaml:1:"),
        ("kind", "x.yaml:1:1: expected a resource: kind, version, metadata, spec"),
        ("metadata: {name: x}", "x.yaml:1:1: kind: is missing"),
        ("kind: rol", "x.yaml:1:7: kind: 'rol' is no kind of resource; did you mean 'role'?"),
        ("kind: node", "x.yaml:1:7: kind: 'node' is no kind of resource"),
        (
            "kind: cap",
            "x.yaml:1:1: spec: is missing; to go back to what the file says: tport rm cap",
        ),
        ("kind: app_server", "x.yaml:1:7: kind: an app_server is what an agent offers now"),
        ("kind: role\nversion: v2", "x.yaml:2:10: version: 'v2' is none of v3, v4"),
        ("kind: user\nversion: v1", "x.yaml:2:10: version: expected v2, found 'v1'"),
        ("kind: user\nspec: {}", "x.yaml:1:1: metadata.name: is missing"),
        ("kind: user\nkind: role", "x.yaml:2:1: kind: is set twice"),
        (
            "kind: user\nmetadata: {name: a b}",
            "x.yaml:2:18: metadata.name: 'a b' is no user name",
        ),
        (
            "kind: user\nmetadata: {name: a}\nspec:\n  rolls: [x]",
            "x.yaml:4:3: spec.rolls: unknown setting; did you mean 'roles'?",
        ),
        (
            "kind: user\nmetadata: {name: a}\nspec:\n  expires: 2027-01-01T00:00:00Z",
            "x.yaml:4:12: spec.expires: users don't expire here",
        ),
        (
            "kind: role\nmetadata: {name: a}\nspec:\n  allow:\n    app_labels:\n      '*': x",
            "x.yaml:6:7: spec.allow.app_labels",
        ),
        (
            "kind: role\nmetadata: {name: a}\nspec:\n  allow:\n    app_labels_expression: x",
            "x.yaml:5:28: spec.allow.app_labels_expression: is not supported",
        ),
        ("kind: token\nmetadata: {name: short}", "x.yaml:2:18: metadata.name: this is no join"),
        (
            f"kind: token\nmetadata: {{name: {SECRET[:20]}}}",
            "x.yaml:2:18: metadata.name: a join token's name is its secret",
        ),
        (
            f"kind: token\nmetadata: {{name: {SECRET}}}\nspec: {{roles: [Node]}}",
            "x.yaml:3:15: spec.roles: expected [App]",
        ),
        (
            f"kind: token\nmetadata: {{name: {SECRET}, expires: soon}}\nspec: {{roles: [App]}}",
            "x.yaml:2:61: metadata.expires: 'soon' is no time",
        ),
        (
            "kind: lock\nmetadata: {expires: '9999-12-31T23:59:59-05:00'}",
            "x.yaml:2:21: metadata.expires: '9999-12-31T23:59:59-05:00' is too far",
        ),
        (
            "kind: lock\nmetadata: {expires: '0001-01-01T00:00:00+05:00'}",
            "x.yaml:2:21: metadata.expires: '0001-01-01T00:00:00+05:00' is too far",
        ),
        (
            "kind: lock\nspec: {target: {}}",
            "x.yaml:2:16: spec.target: a lock's target names nothing",
        ),
        (
            "kind: lock\nspec: {target: {user: a, role: b}}",
            "x.yaml:2:16: spec.target: a lock's target names user, role",
        ),
        (
            "kind: lock\nspec: {target: {login: root}}",
            "x.yaml:2:24: spec.target.login: is no target",
        ),
        (
            f"kind: oidc\nmetadata: {{name: a}}\nspec: {{max_age: {'9' * 9}h}}",
            "x.yaml:3:17: spec.max_age: is too long",
        ),
        (
            "kind: app\nmetadata: {name: A}\nspec: {uri: http://x}",
            "x.yaml:2:18: metadata.name: 'A' is no sub-domain",
        ),
        (
            "kind: app\nmetadata: {name: a, labels: {'-': x}}\nspec: {uri: http://x}",
            "x.yaml:2:35: metadata.labels.-: '-' is no label name",
        ),
        ("kind: app\nmetadata: {name: a}\nspec: {}", "x.yaml:3:7: spec.uri: is missing"),
        (
            "kind: app\nmetadata: {name: dumper}\nspec: {uri: http://x}",
            "x.yaml:2:18: metadata.name: 'dumper' is the name of the debug app",
        ),
        (
            "kind: app\nmetadata: {name: a}\nspec: {uri: http://x, rewrite: {headers: [{name: x}]}}",
            "x.yaml:3:43: spec.rewrite.headers[0]: expected one value, found a map",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, complaint: str) -> None:
    assert any(line.startswith(complaint) for line in complaints(text))


def test_all_that_is_wrong_in_all_documents_is_said_at_once() -> None:
    text = "kind: user\nmetadata: {name: a b}\n---\nkind: usr\n---\nkind: role\nversion: v1\n"

    assert [line.split(":")[1] for line in complaints(text)] == ["2", "4", "7"]


@pytest.mark.parametrize(
    "setting",
    [
        "dynamic_labels: {x: {command: [/bin/ls], period: 1m}}",
        "commands: [{name: x, command: [/bin/ls]}]",
        "allow_metadata: true",
        "tls: {ca_file: /etc/passwd}",
        "tls: {client_cert: /etc/passwd, client_key: /etc/shadow}",
    ],
)
def test_an_app_for_agents_neither_runs_programs_nor_names_files_there(setting: str) -> None:
    text = f"kind: app\nmetadata: {{name: a}}\nspec:\n  uri: https://x\n  {setting}\n"

    assert complaints(text)[0].startswith("x.yaml:5:")


def test_a_token_s_secret_is_in_no_complaint() -> None:
    for name in (SECRET[:20], f"{SECRET} {SECRET}"):
        assert SECRET[:10] not in "".join(complaints(f"kind: token\nmetadata: {{name: {name}}}"))


def test_aliases_mean_nothing_beyond_their_document() -> None:
    assert "nothing is named" in complaints("kind: &k role\n---\nkind: *k\n")[0]


@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_any_text_is_read_or_complained_of(text: str) -> None:
    for prefix in ("", "kind: role\nmetadata: ", "kind: app\nmetadata: {name: a}\nspec: "):
        try:
            read_resources(prefix + text, name="x")
        except TportError:
            pass


def test_an_offer_is_shown_with_its_agent_and_why_it_was_refused() -> None:
    server = AppServer(
        app=App(name="a", uri="http://x"), labels={"k": "v"}, host_id="h", refused="taken"
    )

    value = resource_value(AppServerResource(server=server))

    assert value["spec"]["host_id"] == "h"
    assert value["status"] == {"refused": "taken"}


def test_an_offer_shows_that_a_header_is_set_and_that_its_value_is_elsewhere() -> None:
    headers = (Header("Authorization", "Basic eA=="), Header("X-Env", "{{external.env}}"))
    app = App(name="a", uri="http://x", rewrite=Rewrite(headers=headers)).as_offered({})
    server = AppServer(app=app, labels={}, host_id="h")

    value = resource_value(AppServerResource(server=server))

    assert value["spec"]["app"]["spec"]["rewrite"]["headers"] == [
        {"name": "Authorization", "value": KEPT},
        {"name": "X-Env", "value": "{{external.env}}"},
    ]


@pytest.mark.parametrize(
    ("words", "references"),
    [
        (["roles"], [Reference("role")]),
        (["user/alice,locks"], [Reference("user", "alice"), Reference("lock")]),
        (["App/x", "TOKENS"], [Reference("app", "x"), Reference("token")]),
        (["app_servers"], [Reference("app_server")]),
    ],
)
def test_kinds_go_by_all_their_names(words: list[str], references: list[Reference]) -> None:
    assert parse_references(words) == references


@pytest.mark.parametrize("words", [["nodes"], [""], ["/x"], ["all/x"]])
def test_what_is_no_kind_is_said(words: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        parse_references(words)


def test_a_kind_and_a_name_with_a_blank_between_are_told_how_to_be_written() -> None:
    with pytest.raises(InvalidRequest, match="'alice' is no kind of resource") as told:
        parse_references(["users", "alice"])

    assert told.value.hint == "did you mean user/alice?"


@pytest.mark.parametrize(
    ("spec", "preference"),
    [
        ("{}", Preference()),
        ("{second_factor: off}", Preference(second_factor=OFF)),
        ("{second_factor: 'on', web_idle_timeout: 0s}", Preference(second_factor=ON, web_idle_timeout=0)),
        ("{second_factors: [otp]}", Preference(second_factor=FactorPolicy.from_word("otp"))),
        ("{local_auth: yes, allow_local_auth: true, web_idle_timeout: 10m}", Preference(web_idle_timeout=600, local_auth=True)),
        ("{allow_local_auth: false}", Preference(local_auth=False)),
    ],
)  # fmt: skip
def test_what_a_preference_leaves_out_is_left_as_the_file_says(
    spec: str, preference: Preference
) -> None:
    for kind in ("cap", "cluster_auth_preference"):
        assert read(f"kind: {kind}\nspec: {spec}") == [PreferenceResource(preference=preference)]


@pytest.mark.parametrize(
    ("spec", "place", "words"),
    [
        ("{second_factor: sms}", "spec.second_factor", "expected off, optional"),
        ("{second_factor: on, second_factors: [otp]}", "spec.second_factors", "keep one"),
        ("{second_factors: []}", "spec.second_factors", "expected otp, webauthn or both"),
        ("{web_idle_timeout: 5m}", "spec.web_idle_timeout", "expected 10m"),
        ("{local_auth: yes, allow_local_auth: no}", "spec.allow_local_auth", "keep one"),
        ("{type: oidc}", "spec.type", "expected local"),
        ("{second_faktor: on}", "spec.second_faktor", "did you mean 'second_factor'"),
    ],
)
def test_what_a_preference_cannot_mean_is_said_with_its_place(
    spec: str, place: str, words: str
) -> None:
    [complaint, *_] = complaints(f"kind: cap\nspec: {spec}")

    assert complaint.startswith("x.yaml:2:")
    assert f": {place}: " in complaint
    assert words in complaint


def test_there_is_one_preference_by_one_name() -> None:
    assert "there is only one" in complaints("kind: cap\nmetadata: {name: mine}\nspec: {}")[0]
    for text in ("cap", f"cap/{PREFERENCE}", "cluster_auth_preference"):
        assert parse_reference(text, whole=True) == ("cluster_auth_preference", PREFERENCE)


DOCUMENTED = Path(__file__).parents[3].joinpath("docs", "resources.md").read_text()


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(kind: .+?)```", DOCUMENTED, re.DOTALL))
def test_the_documented_resources_are_taken_without_a_note(text: str) -> None:
    found, notes = read_resources(text, name="docs")

    assert len(found) == 1
    assert notes == ()


def test_each_kind_that_can_be_made_is_documented_with_an_example() -> None:
    shown = set(re.findall(r"```yaml\nkind: (\w+)", DOCUMENTED))

    assert shown == set(KINDS) - {"app_server", "cert_authority"}
    assert all(f"| `{kind}` |" in DOCUMENTED for kind in KINDS)
