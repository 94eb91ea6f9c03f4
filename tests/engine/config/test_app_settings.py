"""What an app can ask for beyond its address: read whole, or refused with its place."""

from __future__ import annotations

import pytest

from tests.engine.config.places import complaints, read
from tport.engine.types.app import App, Cors, Timeouts, UpstreamTls

ALL = """\
app_service:
  enabled: yes
  apps:
  - name: portal
    uri: https://10.0.0.5:8443
    tls:
      ca_file: internal-ca.pem
      server_name: Portal.Internal
      client_cert: ~/agent.pem
      client_key: /etc/keys/agent.pem
    timeouts: {connect: 3s, response_head: 5m, idle: 1m30s}
    cookie_same_site: none
    cors:
      allowed_origins: ["https://Portal.Example.com:443/", "http://[::1]:8080"]
      allowed_methods: [PUT]
      allowed_headers: Content-Type
      exposed_headers: [ETag, X-Total]
      allow_credentials: yes
      max_age: 86400
    required_apps: [api, auth]
    group: Day to day
    session_notice: true
"""


def app(settings: str) -> str:
    uri = "" if settings.startswith("uri:") else "uri: 'https://a', "
    return f"app_service: {{enabled: yes, apps: [{{name: a, {uri}{settings}}}]}}"


def test_everything_an_app_can_ask_for_is_read() -> None:
    config = read(ALL)

    assert config.notes == ()
    assert config.app_service.apps == (
        App(
            name="portal",
            uri="https://10.0.0.5:8443",
            tls=UpstreamTls(
                ca_file="/etc/internal-ca.pem",
                server_name="portal.internal",
                client_cert="/home/alice/agent.pem",
                client_key="/etc/keys/agent.pem",
            ),
            timeouts=Timeouts(connect=3, response_head=300, idle=90),
            cookie_same_site="none",
            cors=Cors(
                allowed_origins=("https://portal.example.com", "http://[::1]:8080"),
                allowed_methods=("PUT",),
                allowed_headers=("Content-Type",),
                exposed_headers=("ETag", "X-Total"),
                allow_credentials=True,
                max_age=86400,
            ),
            required_apps=("api", "auth"),
            group="Day to day",
            session_notice=True,
        ),
    )


def test_an_app_that_asks_for_nothing_waits_ten_seconds_to_connect_and_for_ever_to_be_answered() -> (
    None
):
    [plain] = read(app("")).app_service.apps

    assert (plain.timeouts.connect, plain.timeouts.response_head, plain.timeouts.idle) == (10, 0, 0)
    assert (plain.cors, plain.cookie_same_site, plain.tls) == (None, "lax", UpstreamTls())


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        ("tls: {ca_file: x}, insecure_skip_verify: yes", "tls.ca_file", "has no effect beside insecure_skip_verify; keep the ca_file alone"),
        ("uri: 'http://169.254.169.254/latest'", "uri", "169.254.169.254 is where clouds keep their machines' credentials; if people may have these, say `allow_metadata: yes`"),
        ("uri: 'http://[::ffff:a9fe:a9fe]'", "uri", "::ffff:a9fe:a9fe is where clouds keep their machines' credentials; if people may have these, say `allow_metadata: yes`"),
        ("tls: {client_cert: x}", "tls.client_cert", "needs its client_key beside it"),
        ("tls: {client_key: x}", "tls.client_key", "needs its client_cert beside it"),
        ("tls: {server_name: 'a:443'}", "tls.server_name", "'[a:443]' is no IPv6 address in brackets"),
        ("tls: {ca_file: '~bob/ca.pem'}", "tls.ca_file", "'~bob/ca.pem': only ~/ is understood; write the whole path"),
        ("timeouts: {connect: 0s}", "timeouts.connect", "expected more than 0s"),
        ("timeouts: {connect: 1m}", "timeouts.connect", "at most 30s: people don't wait longer for nothing"),
        ("timeouts: {idle: 30}", "timeouts.idle", "expected a duration like 5s, 30m or 1h30m, found '30'; did you mean '30s'?"),
        ("cookie_same_site: Lax", "cookie_same_site", "expected lax, none or strict, found 'Lax'; did you mean 'lax'?"),
        ("cors: {}", "cors", "allowed_origins is empty, so that nobody would be allowed"),
        ("cors: {allowed_origins: ['null']}", "cors.allowed_origins[0]", "'null' is no origin, as in https://app.example.com"),
        ("cors: {allowed_origins: ['https://a/b']}", "cors.allowed_origins[0]", "'https://a/b' is no origin, as in https://app.example.com"),
        ("cors: {allowed_origins: ['https://*.example.com']}", "cors.allowed_origins[0]", "'https://*.example.com' is no origin, as in https://app.example.com"),
        ("cors: {allowed_origins: ['https://u@a']}", "cors.allowed_origins[0]", "'https://u@a' is no origin, as in https://app.example.com"),
        ("cors: {allowed_origins: '*', allow_credentials: yes}", "cors", "'*' and allow_credentials exclude each other: name what is allowed"),
        ("cors: {allowed_origins: 'https://a', allowed_headers: '*', allow_credentials: yes}", "cors", "'*' and allow_credentials exclude each other: name what is allowed"),
        ("cors: {allowed_origins: 'https://a', allowed_methods: ['A B']}", "cors.allowed_methods[0]", "'A B' is no name of a method or header"),
        ("cors: {allowed_origins: 'https://a', max_age: 48h}", "cors", "max_age is 172800 s, at most 86400"),
        ("required_apps: [b, a]", "required_apps", "'a' is this app itself"),
        ("required_apps: [b, b]", "required_apps", "an app is named twice"),
        ("required_apps: [B]", "required_apps", "'B' is no sub-domain (at most 63 of a-z, 0-9 and -, neither first nor last a -)"),
        ("group: ' '", "group", "' ' is no group (at most 63 of letters, digits, space and _ . -, first and last a letter or digit)"),
        ("session_notice: maybe", "session_notice", "expected yes or no, found 'maybe'"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_says_why(settings: str, path: str, message: str) -> None:
    [told] = complaints(app(settings))

    assert told.partition(": ")[2] == f"app_service.apps[0].{path}: {message}"


def test_tls_of_an_app_that_speaks_none_is_an_error() -> None:
    [told] = complaints(
        "app_service: {enabled: yes, apps: [{name: a, uri: 'http://a', tls: {server_name: b}}]}"
    )

    assert told.endswith("the uri is http://, which has no TLS; did you mean https://?")


def test_what_is_the_agents_own_does_not_leave_it() -> None:
    """Paths of its machine, and how long it waits, are nobody else's business."""
    [made] = read(ALL).app_service.apps

    offered = made.as_offered({"env": "prod"})

    assert offered.labels == {"env": "prod"}
    assert (offered.commands, offered.tls, offered.timeouts) == ((), UpstreamTls(), Timeouts())
    assert offered.cors == made.cors
    assert not made.same_definition(
        read(ALL.replace("yes\n      max", "no\n      max")).app_service.apps[0]
    )
