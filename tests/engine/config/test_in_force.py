"""Settings as they are shown: all of them, in the documents' words, with their origins and no secret."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from tests.engine.config.places import MACHINE, read
from tests.engine.config.test_docs import ROW, TEXT
from tport.engine.config.flags import StartFlags, merge_flags
from tport.engine.config.in_force import duration, meanings, settings_in_force
from tport.engine.config.load import load_config, parse_config
from tport.engine.config.model import Config
from tport.engine.config.words import parse_seconds
from tport.engine.types.setting import DEFAULT, Origin, Setting

SECRET = "0123456789abcdef0123456789abcdef"
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
SHOWN = ("tport.", "auth_service.", "proxy_service.")
# Other names of settings that are shown by the first one.
ALIASES = {
    "tport.join_params.token_name",
    "tport.auth_server",
    "tport.auth_servers",
    "auth_service.authentication.second_factors",
    "proxy_service.https_key_file",
    "proxy_service.https_cert_file",
    "proxy_service.acme.eab.key_file",
}


def shown(config: Config) -> dict[str, Setting]:
    return {setting.path: setting for setting in settings_in_force(config)}


def origins(config: Config) -> dict[str, str]:
    """Return the origins of what isn't a default."""
    found = settings_in_force(config)
    return {each.path: str(each.origin) for each in found if each.origin != DEFAULT}


def test_every_documented_setting_of_auth_and_proxy_is_shown_in_the_documents_words() -> None:
    documented = {
        row[1]: LINK.sub(r"\1", row[2]) for row in ROW.finditer(TEXT) if row[1].startswith(SHOWN)
    }

    assert {path: each.meaning for path, each in shown(read("")).items()} == {
        path: meaning for path, meaning in documented.items() if path not in ALIASES
    }
    assert documented.keys() >= ALIASES
    assert meanings().keys() == shown(read("")).keys()


def test_without_a_file_everything_is_a_default_and_said_as_the_file_would() -> None:
    config = read("")
    found = shown(config)

    assert origins(config) == {}
    assert found["tport.data_dir"].value == "/home/alice/.local/state/tport"
    assert found["tport.diag_addr"].value == "off"
    assert found["auth_service.web_idle_timeout"].value == "1h"
    assert found["auth_service.authentication.second_factor"].value == "on"
    assert found["auth_service.audit.request_log_retention"].value == "90d"
    assert found["auth_service.audit.retention"].value == "forever"
    assert found["proxy_service.trusted_proxies"].value == ""


FILE = """\
teleport:
  data_dir: /srv/tport
  auth_servers:
    - other.test
  ca_pin: ""
auth_service:
  web_idle_timeout: 8h
  authentication:
    second_factors: [webauthn]
proxy_service:
  public_addr: [a.test:443, b.test]
  https_key_file: /etc/key.pem
  https_cert_file: /etc/cert.pem
app_service:
  apps: [{name: x, uri: 'http://x'}]
"""


def test_what_the_file_says_comes_from_its_line_by_whichever_name() -> None:
    config = read(FILE)
    found = shown(config)

    assert origins(config) == {
        "tport.data_dir": "tport.yaml:2",
        "tport.proxy_server": "tport.yaml:4",
        "auth_service.web_idle_timeout": "tport.yaml:7",
        "auth_service.authentication.second_factor": "tport.yaml:9",
        "proxy_service.public_addr": "tport.yaml:11",
        "proxy_service.https_keypairs[].key_file": "tport.yaml:12",
        "proxy_service.https_keypairs[].cert_file": "tport.yaml:13",
    }
    assert found["auth_service.authentication.second_factor"].value == "webauthn"
    assert found["proxy_service.public_addr"].value == "a.test:443, b.test:3080"
    assert found["proxy_service.https_keypairs[].key_file"].value == "/etc/key.pem"


def test_a_flag_wins_over_the_file_and_the_environment_stands_behind_both() -> None:
    machine = msgspec.structs.replace(MACHINE, env={"TPORT_DATA_DIR": "/env"})
    plain = parse_config("", name="tport.yaml", folder=Path("/etc"), machine=machine)
    from_file = parse_config(FILE, name="tport.yaml", folder=Path("/etc"), machine=machine)
    flags = StartFlags(
        roles=("auth",),
        debug=True,
        data_dir=Path("/flag"),
        token="/a/token",
        from_environment={"token": "TPORT_TOKEN_FILE"},
    )

    assert origins(plain) == {"tport.data_dir": "$TPORT_DATA_DIR"}
    assert origins(load_config(None, machine=machine)) == origins(plain)
    assert origins(from_file)["tport.data_dir"] == "tport.yaml:2"
    assert shown(merge_flags(from_file, flags))["tport.data_dir"].origin == Origin(
        "flag", "--data-dir"
    )
    assert origins(merge_flags(read(""), flags)) == {
        "tport.data_dir": "--data-dir",
        "tport.log.severity": "--debug",
        "tport.auth_token": "$TPORT_TOKEN_FILE",
        "auth_service.enabled": "--roles",
        "proxy_service.enabled": "--roles",
    }


def test_of_a_secret_is_told_that_it_is_set_or_which_file_holds_it() -> None:
    config = read(
        f"tport: {{auth_token: {SECRET}}}\n"
        f"proxy_service: {{acme: {{eab: {{kid: x, hmac: {SECRET}}}}}}}\n"
        f'auth_service: {{tokens: ["app:{SECRET}", "app:/etc/token"]}}\n'
    )
    found = shown(config)

    assert found["tport.auth_token"].value == "set"
    assert found["auth_service.tokens"].value == "set, /etc/token"
    assert found["proxy_service.acme.eab.hmac"].value == "set"
    assert SECRET not in str(settings_in_force(config))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (3600.0, "1h"), (5400.0, "1h30m"), (61.0, "1m1s"), (0.25, "250ms")],
)
def test_a_duration_is_said_as_it_is_read(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert parse_seconds(text) == seconds
