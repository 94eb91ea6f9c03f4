"""The shape of tport.yaml: every setting, its type, its default. What they mean: docs/configuration.md.

`read.py` reads any of these structs from a node. A `str` is taken as it is written and judged
in `resolve.py`, where the neighbours are known. `without_effect` lists the settings of
Teleport's files that mean nothing here: they are noted, not refused, so that a Teleport file
works as it is. `refused` are those whose silence would be dangerous, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from tport.engine.config.words import (
    check_join_secret,
    check_retention,
    parse_cluster_name,
    parse_count,
    parse_idle,
    parse_idle_timeout,
    parse_pin,
    parse_seconds,
    parse_whole_seconds,
    parse_workers,
)
from tport.engine.defaults import (
    CONNECTIONS,
    CONNECTIONS_PER_ADDRESS,
    IDLE_TIMEOUT,
    KEY_PAIRS_RELOAD,
    NEW_PER_ADDRESS,
    STRANGERS,
    STRANGERS_PER_ADDRESS,
    WEB_IDLE_TIMEOUT,
)
from tport.engine.types.app import CookieSameSite, JwtClaims
from tport.engine.types.factor import SecondFactor

# What stands in Annotated[...] beside a type:
ONE_OR_MANY = "one value may stand without a list"

Seconds = Annotated[float, parse_seconds]
Count = Annotated[int, parse_count]
WholeSeconds = Annotated[int, parse_whole_seconds]
Text = str
TextList = Annotated[tuple[str, ...], ONE_OR_MANY]

# The newer spelling: any of these, and one of them is required. `sso` proves nobody here.
SecondFactorKind = Literal["otp", "webauthn", "sso"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    without_effect: ClassVar[frozenset[str]] = frozenset()
    refused: ClassVar[Mapping[str, str]] = {}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- tport: ----------------------------------------------------------------------------------


class LogFormat(Section, frozen=True):
    output: Literal["text", "json"] = "text"

    without_effect = _names("extra_fields")


class Log(Section, frozen=True):
    severity: Text = "info"
    output: Text = "stderr"
    format: LogFormat = LogFormat()


class JoinParams(Section, frozen=True):
    method: Text = "token"
    token_name: Annotated[str, check_join_secret] = ""

    without_effect = _names("aws azure gcp oracle kubernetes spacelift terraform_cloud")


class Instance(Section, frozen=True):
    data_dir: Text = ""
    nodename: Text = ""
    log: Log = Log()
    diag_addr: Text = ""
    auth_token: Annotated[str, check_join_secret] = ""
    join_params: JoinParams = JoinParams()
    auth_servers: TextList = ()
    auth_server: Text = ""
    proxy_server: Text = ""
    ca_pin: Annotated[tuple[Annotated[str, parse_pin], ...], ONE_OR_MANY] = ()

    without_effect = _names(
        "pid_file advertise_ip connection_limits cache storage ciphersuites ciphers kex_algos"
        " mac_algos seed_config ca_signature_algo shutdown_delay auth_connection_config keys"
        " disable_compression"
    )


# --- auth_service: ---------------------------------------------------------------------------


class Authentication(Section, frozen=True):
    type: Text = "local"
    second_factor: SecondFactor = "on"
    second_factors: Annotated[tuple[SecondFactorKind, ...], ONE_OR_MANY] = ()
    local_auth: bool = True

    without_effect = _names(
        "webauthn u2f connector_name passwordless headless locking_mode"
        " require_session_mfa default_session_ttl device_trust hardware_key"
        " disconnect_expired_cert allow_local_auth"
    )


class AuditLogs(Section, frozen=True):
    retention: Annotated[str, check_retention] = "forever"
    request_log: bool = True
    request_log_retention: Annotated[str, check_retention] = "90d"
    include_query: bool = False


class AuthService(Section, frozen=True):
    enabled: bool = True
    listen_addr: Text = ""
    cluster_name: Annotated[str, parse_cluster_name] = ""
    tokens: TextList = ()
    authentication: Authentication = Authentication()
    audit: AuditLogs = AuditLogs()
    web_idle_timeout: Annotated[float, parse_idle] = WEB_IDLE_TIMEOUT.total_seconds()

    without_effect = _names(
        "public_addr session_recording proxy_checks_host_keys client_idle_timeout"
        " client_idle_timeout_message disconnect_expired_cert keep_alive_interval"
        " keep_alive_count_max session_control_timeout message_of_the_day proxy_listener_mode"
        " tunnel_strategy routing_strategy proxy_protocol license_file ca_key_params"
        " kubeconfig_file oidc_connectors reverse_tunnels load_all_cas case_insensitive_routing"
        " u2f dynamic_config"
    )


# --- proxy_service: --------------------------------------------------------------------------


class KeyPair(Section, frozen=True):
    key_file: Text = ""
    cert_file: Text = ""


class Eab(Section, frozen=True):
    kid: Text = ""
    hmac: Text = ""
    key_file: Text = ""


class Acme(Section, frozen=True):
    enabled: bool = False
    email: Text = ""
    uri: Text = ""
    staging: bool = False
    ca_file: Text = ""
    eab: Eab = Eab()
    dns_hook: Text = ""
    http_addr: Text = ""


class ConnectionLimits(Section, frozen=True):
    connections: Count = CONNECTIONS
    connections_per_address: Count = CONNECTIONS_PER_ADDRESS
    strangers: Count = STRANGERS
    strangers_per_address: Count = STRANGERS_PER_ADDRESS
    new_per_address: Count = NEW_PER_ADDRESS
    idle_timeout: Annotated[float, parse_idle_timeout] = IDLE_TIMEOUT


class ProxyService(Section, frozen=True):
    enabled: bool = True
    web_listen_addr: Text = ""
    public_addr: TextList = ()
    https_keypairs: tuple[KeyPair, ...] = ()
    https_keypairs_reload_interval: Seconds = KEY_PAIRS_RELOAD
    https_key_file: Text = ""
    https_cert_file: Text = ""
    acme: Acme = Acme()
    trusted_proxies: TextList = ()
    proxy_protocol: bool = False
    workers: Annotated[int, parse_workers] = 1
    limits: ConnectionLimits = ConnectionLimits()

    without_effect = _names(
        "listen_addr ssh_public_addr tunnel_listen_addr tunnel_public_addr peer_listen_addr"
        " peer_public_addr trust_x_forwarded_for ui"
        " protocol kubernetes kube_listen_addr kube_public_addr mysql_listen_addr"
        " mysql_public_addr mysql_server_version postgres_listen_addr postgres_public_addr"
        " mongo_listen_addr mongo_public_addr idp proxy_group_id proxy_group_generation"
        " automatic_upgrades_channels"
    )


# --- app_service: ----------------------------------------------------------------------------


class Command(Section, frozen=True):
    name: Text = ""
    command: tuple[str, ...] = ()
    period: Seconds = 60.0


class Rewrite(Section, frozen=True):
    redirect: TextList = ()
    headers: TextList = ()
    jwt_claims: JwtClaims = "roles-and-traits"


class UpstreamTls(Section, frozen=True):
    ca_file: Text = ""
    server_name: Text = ""
    client_cert: Text = ""
    client_key: Text = ""


class Timeouts(Section, frozen=True):
    connect: Seconds = 10.0
    response_head: Seconds = 0.0
    idle: Seconds = 0.0


class Cors(Section, frozen=True):
    allowed_origins: TextList = ()
    allowed_methods: TextList = ()
    allowed_headers: TextList = ()
    exposed_headers: TextList = ()
    allow_credentials: bool = False
    max_age: WholeSeconds = 0


class AppEntry(Section, frozen=True):
    name: Text = ""
    uri: Text = ""
    public_addr: Text = ""
    description: Text = ""
    labels: Mapping[str, str] = {}
    commands: tuple[Command, ...] = ()
    insecure_skip_verify: bool = False
    tls: UpstreamTls = UpstreamTls()
    timeouts: Timeouts = Timeouts()
    allow_metadata: bool = False
    cookie_same_site: CookieSameSite = "lax"
    cors: Cors = Cors()
    required_apps: TextList = ()
    group: Text = ""
    session_notice: bool = False
    rewrite: Rewrite = Rewrite()

    without_effect = _names("use_any_proxy_public_addr aws user_groups")
    refused = {
        "cloud": "cloud consoles are not among the applications tport serves",
        "tcp_ports": "TCP applications are not supported; expected an app with an http:// URI",
        "mcp": "MCP servers are not among the applications tport serves",
        "llm": "language models are not among the applications tport serves",
    }


class ResourceMatcher(Section, frozen=True):
    labels: Mapping[str, TextList] = {}

    without_effect = _names("aws")


_NO_TARGET_POLICY = (
    "tport has no list of allowed targets; a file that relies on one is not safe to start"
)


class AppService(Section, frozen=True):
    enabled: bool = False
    debug_app: bool = False
    apps: tuple[AppEntry, ...] = ()
    resources: tuple[ResourceMatcher, ...] = ()

    without_effect = _names("mcp_demo_server")
    refused = {"allowed_hosts": _NO_TARGET_POLICY, "denied_hosts": _NO_TARGET_POLICY}


# --- the file --------------------------------------------------------------------------------


class SshService(Section, frozen=True):
    enabled: bool = False

    without_effect = _names(
        "listen_addr public_addr labels commands permit_user_env pam enhanced_recording"
        " allow_tcp_forwarding port_forwarding x11 max_reverse_tunnels disable_create_host_user"
        " ssh_file_copy namespace force_listen"
    )


class File(Section, frozen=True):
    version: Literal["v1", "v2", "v3"] = "v3"
    tport: Instance = Instance()
    teleport: Instance = Instance()  # the same by the name it has in Teleport's files
    auth_service: AuthService = AuthService()
    proxy_service: ProxyService = ProxyService()
    app_service: AppService = AppService()
    ssh_service: SshService = SshService()

    without_effect = _names(
        "kubernetes_service db_service windows_desktop_service discovery_service metrics_service"
        " debug_service tracing_service okta_service jamf_service plugins access_graph"
        " relay_service"
    )
