"""An app as the entry that people put into their file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.config.places import read
from tport.engine.config.entry import app_yaml
from tport.engine.types.app import (
    App,
    Cors,
    DynamicLabel,
    Header,
    Rewrite,
    Timeouts,
    UpstreamTls,
)

PLAIN = App(name="grafana", uri="http://localhost:3000")
WHOLE = App(
    name="on",
    uri="https://[::1]:8443/#x",
    public_addr="grafana.example.com",
    description='Dashboards: #1, "all" of\nthem',
    labels={"env": "prod", "no": "yes", "a/b": "", "c": "it's"},
    commands=(
        DynamicLabel(name="os", command=("/usr/bin/uname", "-s", '"\\'), period=3600),
        DynamicLabel(name="load", command=("/bin/load",), period=60),
    ),
    insecure_skip_verify=True,
    tls=UpstreamTls(server_name="router.internal", client_cert="/a b.pem", client_key="/k.pem"),
    timeouts=Timeouts(connect=1.5, response_head=5400, idle=90),
    allow_metadata=True,
    cookie_same_site="none",
    cors=Cors(
        allowed_origins=("https://portal.example.com", "http://[::1]:8080"),
        allowed_methods=("PUT",),
        allowed_headers=("Content-Type",),
        exposed_headers=("ETag", "X-Total"),
        allow_credentials=True,
        max_age=600,
    ),
    required_apps=("api", "1"),
    group="Day to day",
    session_notice=True,
    rewrite=Rewrite(
        redirect=("localhost", "10.0.0.1"),
        headers=(
            Header("Host", "h.example.com:3080"),
            Header("X", '{{regexp.replace(internal.logins, "a", "b")}}'),
        ),
        jwt_claims="none",
    ),
)
TEXT = r"""- name: "on"
  uri: "https://[::1]:8443/#x"
  public_addr: grafana.example.com
  description: "Dashboards: #1, \"all\" of\nthem"
  labels:
    env: prod
    "no": "yes"
    a/b: ""
    c: it's
  commands:
  - name: os
    command: ["/usr/bin/uname", "-s", "\"\\"]
    period: 1h
  - name: load
    command: ["/bin/load"]
  insecure_skip_verify: true
  tls:
    server_name: router.internal
    client_cert: /a b.pem
    client_key: /k.pem
  timeouts:
    connect: 1.5s
    response_head: 90m
    idle: 90s
  allow_metadata: true
  cookie_same_site: none
  cors:
    allowed_origins: [https://portal.example.com, "http://[::1]:8080"]
    allowed_methods: [PUT]
    allowed_headers: [Content-Type]
    exposed_headers: [ETag, X-Total]
    allow_credentials: true
    max_age: 600
  required_apps: [api, "1"]
  group: Day to day
  session_notice: true
  rewrite:
    redirect:
    - localhost
    - "10.0.0.1"
    headers:
    - "Host: h.example.com:3080"
    - "X: {{regexp.replace(internal.logins, \"a\", \"b\")}}"
    jwt_claims: none
"""


def loaded(entry: str) -> App:
    """Return the app of a file that has this entry."""
    lines = "".join(f"  {line}" for line in entry.splitlines(keepends=True))
    config = read(f"app_service:\n  enabled: yes\n  apps:\n{lines}")
    assert config.app_service.faulty == ()
    assert config.notes == ()
    [app] = config.app_service.apps
    return app


def test_an_app_that_asks_for_nothing_is_two_lines() -> None:
    assert app_yaml(PLAIN) == "- name: grafana\n  uri: http://localhost:3000\n"


def test_everything_stands_in_the_order_of_the_documentation_and_loads_again() -> None:
    assert app_yaml(WHOLE) == TEXT
    assert loaded(TEXT) == WHOLE


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"),
        (0.25, "0.25s"),
        (1, "1s"),
        (90, "90s"),
        (120, "2m"),
        (5400, "90m"),
        (86400, "24h"),
    ],
)
def test_a_duration_has_the_largest_unit_that_leaves_nothing(seconds: float, written: str) -> None:
    app = replace(PLAIN, timeouts=Timeouts(idle=seconds, connect=3))

    assert (f"idle: {written}\n" in app_yaml(app)) == (seconds != 0)
    assert loaded(app_yaml(app)) == app


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
printable = text.filter(str.isprintable)


@given(
    description=text,
    labels=st.dictionaries(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,9}", fullmatch=True), printable, max_size=3),
    words=st.lists(text.filter(lambda word: "\0" not in word and word != ""), max_size=3),
    period=st.integers(1000, 10**8).map(lambda milliseconds: milliseconds / 1000),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="{"), max_size=20).map(str.strip),
)  # fmt: skip
def test_whatever_people_write_loads_as_the_same(
    description: str, labels: dict[str, str], words: list[str], period: float, value: str
) -> None:
    labels.pop("os", None)
    app = replace(
        PLAIN,
        description=description,
        labels=labels,
        commands=(DynamicLabel(name="os", command=("/bin/x", *words), period=period),),
        rewrite=Rewrite(headers=(Header("X-A", value),)),
    )

    assert loaded(app_yaml(app)) == app
