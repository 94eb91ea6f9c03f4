from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.config.places import MACHINE, fails, read
from tport.engine.config.address import Address
from tport.engine.config.load import MAX_FILE, find_config_file, load_config
from tport.engine.config.model import ConnectionLimits, Secret
from tport.engine.config.resolve import Machine
from tport.engine.defaults import MAX_WORKERS
from tport.engine.errors import ConfigError

SECRET = "0123456789abcdef" * 2


def machine(*, root: bool = False, **env: str) -> Machine:
    return replace(MACHINE, env=env, is_root=root)


# --- What no file, and an empty one, mean ----------------------------------------------------


def test_without_a_file_auth_and_proxy_serve_this_machine_alone() -> None:
    config = load_config(None, machine=MACHINE)

    assert (config.auth_service.enabled, config.proxy_service.enabled) == (True, True)
    assert not config.app_service.enabled
    assert config.auth_service.cluster_name == "tport.localhost"
    assert config.proxy_service.public_addrs == (Address("tport.localhost", 3080),)
    assert not config.proxy_service.public_is_given
    assert config.proxy_service.web_listen_addr == Address("127.0.0.1", 3080)
    assert config.nodename == "host-1"
    assert config.file is None


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "tport:\nauth_service: ~\n", "---\n"])
def test_an_empty_file_is_all_defaults(text: str) -> None:
    assert read(text) == load_config(None, machine=MACHINE)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (machine(TPORT_DATA_DIR="/srv/t", XDG_STATE_HOME="/xdg"), "/srv/t"),
        (machine(TPORT_DATA_DIR="t"), "/cwd/t"),
        (machine(root=True, XDG_STATE_HOME="/xdg"), "/var/lib/tport"),
        (machine(XDG_STATE_HOME="/xdg"), "/xdg/tport"),
        (machine(XDG_STATE_HOME="relative"), "/home/alice/.local/state/tport"),
        (machine(), "/home/alice/.local/state/tport"),
    ],
)
def test_the_data_directory_is_found_the_same_way_everywhere(where: Machine, expected: str) -> None:
    assert read("", where).data_dir == Path(expected)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("/data", "/data"), ("~/data", "/home/alice/data"), ("~", "/home/alice"), ("d", "/etc/d")],
)
def test_a_relative_path_belongs_to_the_files_folder(written: str, meant: str) -> None:
    assert read(f"tport: {{data_dir: '{written}'}}").data_dir == Path(meant)


# --- What values may look like -----------------------------------------------------------------


@pytest.mark.parametrize("word", ["yes", "on", "true", "True", "ON", '"yes"', "'on'", '"true"'])
def test_yes_has_many_spellings(word: str) -> None:
    assert read(f"app_service: {{enabled: {word}}}").app_service.enabled


@pytest.mark.parametrize("word", ["no", "off", "false", "FALSE", '"no"', "'off'"])
def test_no_has_many_spellings(word: str) -> None:
    assert not read(f"auth_service: {{enabled: {word}}}").auth_service.enabled


@pytest.mark.parametrize(
    ("period", "seconds"), [("5s", 5), ("1h30m", 5400), ("30m", 1800), ("1500ms", 1.5)]
)
def test_durations_are_written_as_in_go(period: str, seconds: float) -> None:
    command = f"{{name: os, command: [/bin/uname], period: {period}}}"

    (app,) = read(
        f"app_service: {{apps: [{{name: a, uri: http://a, commands: [{command}]}}]}}"
    ).app_service.apps

    assert app.commands[0].period == seconds


def test_labels_are_the_text_that_was_written() -> None:
    app = "{name: a, uri: http://a, labels: {a: yes, b: 010, c: 1.10, d: null, e: ''}}"

    (read_app,) = read(f"app_service: {{apps: [{app}]}}").app_service.apps

    assert read_app.labels == {"a": "yes", "b": "010", "c": "1.10", "d": "", "e": ""}


def test_anchors_and_merges_spare_repetition() -> None:
    text = """\
app_service:
  apps:
  - &one {name: one, uri: 'http://localhost:1', labels: &labels {env: prod}}
  - {<<: *one, name: two, public_addr: two.example.com}
  - {name: three, uri: 'http://localhost:3', labels: *labels}
"""
    one, two, three = read(text).app_service.apps

    assert two.uri == one.uri
    assert one.labels == two.labels == three.labels == {"env": "prod"}


@pytest.mark.parametrize("key", ["proxy_server", "auth_server", "auth_servers"])
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("p.example.com", Address("p.example.com", 3080)),
        ("P.Example.com.:443", Address("p.example.com", 443)),
        ("10.0.0.1:3080", Address("10.0.0.1", 3080)),
        ("'[2001:DB8::1]:443'", Address("2001:db8::1", 443)),
    ],
)
def test_the_proxy_has_one_address_by_any_of_its_names(
    key: str, written: str, meant: Address
) -> None:
    assert read(f"tport: {{{key}: {written}}}").proxy_addr == meant


@pytest.mark.parametrize(
    ("roles", "listen"),
    [("", "127.0.0.1:3025"), ("proxy_service: {enabled: no}", "0.0.0.0:3025")],
)
def test_auth_listens_for_others_only_without_a_proxy_beside_it(roles: str, listen: str) -> None:
    assert str(read(roles).auth_service.listen_addr) == listen


def test_a_public_address_takes_the_port_that_is_listened_on() -> None:
    proxy = read(
        "proxy_service: {web_listen_addr: '0.0.0.0:8443', public_addr: [A.example.com, 'b.test:1']}"
    ).proxy_service

    assert [str(address) for address in proxy.public_addrs] == ["a.example.com:8443", "b.test:1"]


def test_a_given_listener_stays_where_it_is_without_a_public_address() -> None:
    proxy = read("proxy_service: {web_listen_addr: '127.0.0.1:0'}").proxy_service

    assert proxy.web_listen_addr == Address("127.0.0.1", 0)
    assert proxy.public_addrs == (Address("tport.localhost", 0),)


def test_the_old_single_key_pair_is_one_of_the_pairs() -> None:
    pairs = read("proxy_service: {https_key_file: k.pem, https_cert_file: /c.pem}").proxy_service

    assert [(pair.key_file, pair.cert_file) for pair in pairs.https_keypairs] == [
        (Path("/etc/k.pem"), Path("/c.pem"))
    ]


def test_a_pin_is_hex_or_a_file() -> None:
    pin = "AB" * 32

    assert read(f"tport: {{ca_pin: 'sha256:{pin}'}}").ca_pin == (pin.lower(),)
    assert read(f"tport: {{ca_pin: [{pin}, /etc/pin]}}").ca_pin == (pin.lower(), "/etc/pin")
    assert read("tport: {ca_pin: ''}").ca_pin == ()


def test_join_params_is_another_way_to_give_the_token() -> None:
    config = read(f"tport: {{join_params: {{method: token, token_name: {SECRET}}}}}")

    assert config.auth_token == Secret(SECRET)


def test_no_repr_shows_a_secret() -> None:
    config = read(
        f"tport: {{auth_token: {SECRET}}}\nauth_service: {{tokens: ['app:{SECRET}x', 'app:/f']}}"
    )

    assert config.auth_service.tokens == (Secret(SECRET + "x"), Secret("/f"))
    assert SECRET not in repr(config)
    assert SECRET not in f"{config.auth_token}"


def test_log_speaks_teleports_words() -> None:
    log = read("tport: {log: {severity: WARN, output: out, format: {output: json}}}").log

    assert (log.severity, log.output, log.format) == ("warning", "stdout", "json")
    assert read("tport: {log: {output: ~/t.log}}").log.output == "/home/alice/t.log"


# --- Notes -------------------------------------------------------------------------------------


def test_what_only_teleport_knows_is_noted_once_with_its_place() -> None:
    text = """\
version: v3
teleport:
  nodename: a
  cache:
    enabled: yes
  storage: {type: dynamodb}
auth_service:
  session_recording: node
  authentication:
    locking_mode: strict
kubernetes_service:
  enabled: yes
"""
    assert read(text).notes == (
        "tport.yaml:4:3: teleport.cache: has no effect in tport",
        "tport.yaml:6:3: teleport.storage: has no effect in tport",
        "tport.yaml:8:3: auth_service.session_recording: has no effect in tport",
        "tport.yaml:10:5: auth_service.authentication.locking_mode: has no effect in tport",
        "tport.yaml:11:1: kubernetes_service: has no effect in tport",
    )


def test_what_looks_forgotten_is_noted() -> None:
    text = """\
tport: {auth_servers: [a.example.com:3025, b.example.com]}
auth_service: {tokens: ['app,node:/f']}
app_service: {apps: []}
"""
    assert read(text).notes == (
        "tport.yaml:1:24: tport.auth_servers[0]: an agent dials the proxy, and 3025 is auth's"
        " port; did you mean 3080 or 443?",
        "tport.yaml:1:44: tport.auth_servers[1]: only the first address is dialled",
        "tport.yaml:2:25: auth_service.tokens[0]: only the role app has an effect, not node",
    )
    assert read("app_service: {apps: [{name: a, uri: http://a}]}").notes == (
        "tport.yaml:1:14: app_service: is off unless it says `enabled: yes`, so that its apps"
        " aren't offered",
    )


@pytest.mark.parametrize(
    ("addresses", "hosts"),
    [
        ("", ["tport.localhost"]),
        ("public_addr: [a.example.com, localhost, 'box:1', box], ", ["box", "localhost"]),
        ("public_addr: a.example.com, ", []),
    ],
)
def test_names_that_no_acme_server_vouches_for_are_noted(addresses: str, hosts: list[str]) -> None:
    """Their certificates would be waited for in vain."""
    notes = read(f"proxy_service: {{{addresses}acme: {{enabled: yes, email: a@b.test}}}}").notes

    assert [note.partition("vouches for ")[2].partition(":")[0] for note in notes] == hosts
    assert read(f"proxy_service: {{{addresses}enabled: yes}}").notes == ()


# --- One bad app -------------------------------------------------------------------------------


def test_one_bad_app_goes_red_alone() -> None:
    text = """\
app_service:
  enabled: yes
  apps:
  - {name: good, uri: 'http://localhost:1'}
  - {name: bad, uri: 'ftp://localhost:1', insecure_skip_verify: perhaps}
  - {uri: 'http://localhost:3'}
"""
    service = read(text).app_service

    assert [app.name for app in service.apps] == ["good"]
    assert [(app.index, app.name) for app in service.faulty] == [(1, "bad"), (2, "")]
    assert service.faulty[0].complaints == (
        "tport.yaml:5:22: app_service.apps[1].uri: 'ftp' is not served; expected http:// or"
        " https://",
        "tport.yaml:5:65: app_service.apps[1].insecure_skip_verify: expected yes or no, found"
        " 'perhaps'",
    )
    assert service.faulty[1].complaints == ("tport.yaml:6:5: app_service.apps[2].name: is missing",)


def test_all_faults_are_told_at_once_those_of_apps_too() -> None:
    text = """\
auth_service:
  enabeld: yes
app_service:
  apps:
  - {name: Bad, uri: 'http://localhost:1'}
"""
    assert fails(text) == [
        "tport.yaml:2:3: auth_service.enabeld: unknown setting; did you mean 'enabled'?",
        "tport.yaml:5:12: app_service.apps[0].name: 'Bad' is no sub-domain (at most 63 of a-z,"
        " 0-9 and -, neither first nor last a -)",
    ]


# --- Files that cannot be read -------------------------------------------------------------------


def test_the_file_is_the_flags_then_the_environments_then_the_usual_one(tmp_path: Path) -> None:
    usual = tmp_path / "tport.yaml"
    env = {"TPORT_CONFIG_FILE": "/from/env"}

    assert find_config_file(None, env={}, default=usual) is None
    usual.touch()
    assert find_config_file(None, env={}, default=usual) == usual
    assert find_config_file(None, env=env, default=usual) == Path("/from/env")
    assert find_config_file(Path("/flag"), env=env, default=usual) == Path("/flag")


def test_a_file_is_read_and_known(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("tport: {data_dir: data}")

    config = load_config(path, machine=MACHINE)

    assert config.file == path
    assert config.data_dir == tmp_path / "data"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{file}: there is no such file"),
        (b"a: b\nc: \xff", "{file}:2:4: is not UTF-8 here"),
        (b"#" * (MAX_FILE + 1), "{file}: is larger than 1024 KiB"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "t.yaml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        load_config(path, machine=MACHINE)

    assert str(caught.value) == message.format(file=path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path, machine=MACHINE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_others_says_whom_to_ask(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.touch(mode=0o000)

    with pytest.raises(ConfigError, match="you may not read this file"):
        load_config(path, machine=MACHINE)


# --- Any text ------------------------------------------------------------------------------------

_WORDS = st.sampled_from(
    [
        "tport",
        "teleport",
        "auth_service",
        "proxy_service",
        "app_service",
        "ssh_service",
        "enabled",
        "apps",
        "name",
        "uri",
        "labels",
        "commands",
        "command",
        "period",
        "rewrite",
        "headers",
        "public_addr",
        "tokens",
        "ca_pin",
        "log",
        "yes",
        "no",
        "5s",
        "http://a",
        "a.example.com:3080",
        "app:x",
        "/f",
        "*",
        "&a",
        "*a",
        "<<",
        "-",
        ":",
        ",",
        "[",
        "]",
        "{",
        "}",
        "'",
        '"',
        "|",
        ">",
        "?",
        "!",
        "%",
        "@",
        "#",
        "---",
        "...",
    ]
)
_LINES = st.lists(st.tuples(st.integers(0, 4), st.lists(_WORDS, max_size=5)), max_size=12).map(
    lambda lines: "\n".join("  " * depth + " ".join(words) for depth, words in lines)
)


@given(st.text() | _LINES)
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    try:
        read(text)
    except ConfigError as error:
        told = str(error)
    else:
        return

    assert told
    assert all(line.startswith("tport.yaml:") for line in told.splitlines())


def test_load_balancers_are_networks_or_addresses() -> None:
    proxy = read(
        "proxy_service: {proxy_protocol: on, trusted_proxies: [10.0.0.0/8, '2001:db8::1']}"
    ).proxy_service

    assert proxy.proxy_protocol
    assert list(map(str, proxy.trusted_proxies)) == ["10.0.0.0/8", "2001:db8::1/128"]
    assert read("").proxy_service.trusted_proxies == ()


@pytest.mark.parametrize(
    ("settings", "path", "why"),
    [
        ("trusted_proxies: 10.0.0.1/8", "trusted_proxies[0]", "write 10.0.0.0/8"),
        ("trusted_proxies: [0.0.0.0/0]", "trusted_proxies[0]", "is everybody"),
        ("proxy_protocol: on", "proxy_protocol", "needs trusted_proxies"),
    ],
)
def test_nobody_is_trusted_by_mistake(settings: str, path: str, why: str) -> None:
    """HTTP-14, TLS-12: who is believed must be said, and can't be everybody."""
    (told,) = fails(f"proxy_service: {{{settings}}}")

    assert f"proxy_service.{path}: " in told
    assert why in told


@pytest.mark.parametrize(("text", "count"), [("3", 3), ("'1'", 1), ("auto", 6), ("AUTO", 6)])
def test_workers_are_a_number_or_as_many_as_there_are_cpus_to_use(text: str, count: int) -> None:
    machine = replace(MACHINE, cpus=6)

    assert read(f"proxy_service: {{workers: {text}}}", machine).proxy_service.workers == count


def test_limits_of_connections_are_numbers_and_all_have_defaults() -> None:
    service = read("proxy_service: {limits: {strangers: 50, idle_timeout: 2m}}").proxy_service

    assert service.limits == ConnectionLimits(strangers=50, idle_timeout=120.0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("connections: 0", "connections: expected 1 to 1000000, found '0'"),
        ("strangers: 2000000", "strangers: expected 1 to 1000000, found '2000000'"),
        ("strangers_per_address: no", "strangers_per_address: expected 1 to 1000000, found 'no'"),
        ("idle_timeout: 0s", "idle_timeout: expected 1s to 1h, found '0s'"),
        ("idle_timeout: 2h", "idle_timeout: expected 1s to 1h, found '2h'"),
    ],
)
def test_what_is_no_limit_of_connections_is_told(text: str, why: str) -> None:
    [told] = fails(f"proxy_service: {{limits: {{{text}}}}}")

    assert told.endswith(f"proxy_service.limits.{why}")


def test_one_process_is_the_default_and_on_a_huge_machine_auto_has_an_end() -> None:
    huge = replace(MACHINE, cpus=500)

    assert read("").proxy_service.workers == 1
    assert read("proxy_service: {workers: auto}", huge).proxy_service.workers == MAX_WORKERS


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "65", "many", "yes", "99999999999999", "²"])
def test_what_is_no_number_of_workers_is_told(text: str) -> None:
    assert fails(f"proxy_service: {{workers: {text}}}") == [
        f"tport.yaml:1:26: proxy_service.workers: expected 1 to 64, or auto, found '{text}'"
    ]
