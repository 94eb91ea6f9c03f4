from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.config.places import read
from tport.engine.config.address import Address
from tport.engine.config.flags import StartFlags, merge_flags, parse_labels
from tport.engine.config.model import Config, Secret
from tport.engine.errors import ConfigError

SECRET = "0123456789abcdef" * 2
GRAFANA = {"app_name": "grafana", "app_uri": "http://localhost:3000"}

FILE = """\
tport: {data_dir: /data, auth_token: /file/token, proxy_server: file.test}
proxy_service: {public_addr: proxy.test}
app_service: {apps: [{name: jira, uri: 'http://jira'}]}
"""


def merged(text: str = FILE, **flags: Any) -> Config:
    return merge_flags(read(text), StartFlags(**flags))


def test_without_flags_the_file_stays_as_it_is() -> None:
    assert merged() == read(FILE)


def test_the_guides_agent_needs_no_file() -> None:
    config = merged(
        "",
        roles=["app"],
        token="/tmp/token",
        auth_server="tport.example.com:3080",
        labels=["env=dev"],
        **GRAFANA,
    )

    assert not config.auth_service.enabled
    assert not config.proxy_service.enabled
    assert config.auth_token == Secret("/tmp/token")
    assert config.proxy_addr == Address("tport.example.com", 3080)
    (app,) = config.app_service.apps
    assert (app.name, app.uri, app.labels) == ("grafana", "http://localhost:3000", {"env": "dev"})


def test_flags_win_over_the_file() -> None:
    config = merged(
        token=SECRET,
        auth_server="flag.test",
        ca_pin=["sha256:" + "a" * 64],
        insecure=True,
        data_dir=Path("/flag"),
        diag_addr="127.0.0.1:0",
        log_format="json",
        log_level="error",
    )

    assert config.auth_token == Secret(SECRET)
    assert config.proxy_addr == Address("flag.test", 3080)
    assert config.ca_pin == ("a" * 64,)
    assert config.insecure
    assert config.data_dir == Path("/flag")
    assert config.diag_addr == Address("127.0.0.1", 0)
    assert (config.log.format, config.log.severity) == ("json", "error")
    assert merged(log_level="error", debug=True).log.severity == "debug"


@pytest.mark.parametrize("roles", [["auth,proxy,app"], ["auth", "proxy", "App"]])
def test_roles_enable_exactly_those_they_name(roles: list[str]) -> None:
    config = merged("auth_service: {enabled: no}", roles=roles)

    assert config.auth_service.enabled
    assert config.proxy_service.enabled
    assert config.app_service.enabled
    assert not merged(roles=["auth"]).proxy_service.enabled


def test_auth_alone_listens_for_others_unless_told_where() -> None:
    told = "auth_service: {listen_addr: '127.0.0.1:3025'}"

    assert str(merged("", roles=["auth"]).auth_service.listen_addr) == "0.0.0.0:3025"
    assert str(merged(told, roles=["auth"]).auth_service.listen_addr) == "127.0.0.1:3025"


def test_an_app_by_flags_joins_those_of_the_file_and_switches_the_role_on() -> None:
    config = merged(**GRAFANA)

    assert config.app_service.enabled
    assert [app.name for app in config.app_service.apps] == ["jira", "grafana"]


def test_a_label_may_hold_a_comma_in_quotes() -> None:
    assert parse_labels(['env=dev,team="a, b"', "x=y=z"]) == {
        "env": "dev",
        "team": "a, b",
        "x": "y=z",
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"roles": ["node"]},
            "--roles: tport has no such role 'node'; expected auth, proxy or app",
        ),
        (
            {"roles": ["prox"]},
            "--roles: unknown role 'prox'; expected auth, proxy or app; did you mean 'proxy'?",
        ),
        (
            {"roles": ["myapp"]},
            "--roles: unknown role 'myapp'; expected auth, proxy or app; did you mean 'app'?",
        ),
        (
            {"app_uri": "http://a"},
            "--app-uri: says something of an app, and --app-name is missing",
        ),
        ({"labels": ["a=b"]}, "--labels: says something of an app, and --app-name is missing"),
        ({"app_name": "a"}, "--app-name: where is a? --app-uri is missing"),
        (
            {"app_name": "A", "app_uri": "http://a"},
            "--app-name: 'A' is no sub-domain (at most 63 of a-z, 0-9 and -, neither first nor"
            " last a -)",
        ),
        (
            {"app_name": "a", "app_uri": "a:1"},
            "--app-uri: 'a:1' has no scheme; did you mean 'http://a:1'?",
        ),
        (
            {**GRAFANA, "app_public_addr": "proxy.test"},
            "--app-public-addr: 'proxy.test' is the proxy's own address; give another name",
        ),
        (
            {"app_name": "jira", "app_uri": "http://a"},
            "--app-name: an app 'jira' is in the file already; leave out --app-name, or choose"
            " another",
        ),
        (
            {**GRAFANA, "roles": ["proxy", "auth"]},
            "--app-name: an app needs the role app, and --roles=auth,proxy leaves it out",
        ),
        ({**GRAFANA, "labels": ["env"]}, "--labels: 'env' is no label; expected key=value"),
        (
            {**GRAFANA, "labels": ["os=[1h:/bin/uname]"]},
            "--labels: os: labels that a command makes go into the file, under commands",
        ),
        ({"token": "tmp/token"}, "--token: there is no such file"),
        (
            {"token": "hunter2"},
            "--token: this is no join token, and there is no file of that name",
        ),
        (
            {"auth_server": "https://a.test"},
            "--auth-server: 'https://a.test' has a scheme; leave out 'https://'",
        ),
        (
            {"ca_pin": ["12"]},
            "--ca-pin: '12' is no CA pin; expected sha256:<64 hex digits> or the absolute path of"
            " a file",
        ),
        (
            {"diag_addr": "3000"},
            "--diag-addr: '3000' has no port; write host:port, as in 127.0.0.1:3000",
        ),
    ],
)
def test_a_flag_that_cannot_be_meant_is_named(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        merged(**flags)

    assert str(caught.value) == message


def test_what_is_missing_of_an_app_comes_with_the_whole_line() -> None:
    with pytest.raises(ConfigError) as caught:
        merged(app_name="grafana")

    assert caught.value.hint == (
        "write: tport start --roles=app --token=FILE --auth-server=HOST:PORT --app-name=grafana --app-uri=http://localhost:PORT"
    )


def test_nothing_to_start_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nothing to start"):
        merged("auth_service: {enabled: no}\nproxy_service: {enabled: no}")


def test_the_flags_do_not_show_the_token() -> None:
    assert SECRET not in repr(StartFlags(token=SECRET))
