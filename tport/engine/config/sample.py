"""The commented file that `tport configure` writes. Pure: text in, text out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tport.engine.config.address import Address, parse_dial_address, parse_public_address
from tport.engine.config.app_rules import check_uri
from tport.engine.config.flags import Role, judge_flag, parse_roles
from tport.engine.config.quoting import quoted
from tport.engine.config.words import (
    check_email,
    check_join_secret,
    one_of,
    parse_cluster_name,
    shown,
)
from tport.engine.defaults import WEB_PORT
from tport.engine.errors import ConfigError
from tport.engine.types.app import check_app_name

DATA_DIR = "/var/lib/tport"
VERSIONS = ("v1", "v2", "v3")  # of Teleport's format, which all mean the same to tport


class SampleFlags(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of `tport configure` as they were typed; "" and (): not given."""

    cluster_name: str = ""
    public_addr: str = ""
    acme: bool = False
    acme_email: str = ""
    staging: bool = False
    cert_file: str = ""
    key_file: str = ""
    roles: Sequence[str] = ()
    token: str = ""
    proxy: str = ""
    app_name: str = ""
    app_uri: str = ""
    data_dir: str = ""
    version: str = ""

    def __repr__(self) -> str:  # the token must not get into a traceback
        return "SampleFlags(…)"

    @property
    def is_empty(self) -> bool:
        return self == SampleFlags()

    @property
    def is_for_server(self) -> bool:
        """Whether the proxy runs here."""
        return "proxy" in _roles(self)


def sample_config(flags: SampleFlags) -> str:
    """Return the text of a file that says what the flags ask for. It loads without complaint.

    Raises:
        ConfigError: a flag is missing or can't be meant; the hint is the whole line to type.
    """
    roles = _roles(flags)
    _check_combination(flags, roles)
    public = _public(flags) if "proxy" in roles else None
    sections = [_instance(flags)]
    sections.append(_auth(flags, public) if "auth" in roles else ["auth_service:", *_OFF])
    sections.append(_proxy(flags, public) if public else ["proxy_service:", *_OFF])
    sections.append(_app(flags, public) if "app" in roles else ["app_service:", *_OFF])
    head = [
        "# tport's configuration. Every setting: docs/configuration.md",
        "# Check this file: tport configure --test FILE; and what it needs: … --check FILE",
        f"version: {_version(flags)}",
    ]
    return "\n".join("\n".join(lines) + "\n" for lines in (head, *sections))


_OFF = ('  enabled: "no"',)
_ON = '  enabled: "yes"'


def _version(flags: SampleFlags) -> str:
    version = flags.version or VERSIONS[-1]
    if version not in VERSIONS:
        raise ConfigError(f"--version: expected {one_of(VERSIONS)}, found {shown(version)}")
    return version


def _roles(flags: SampleFlags) -> frozenset[Role]:
    if flags.roles:
        return parse_roles(flags.roles)
    for_app = flags.app_name or flags.app_uri
    for_proxy = flags.cluster_name or flags.public_addr or flags.acme or flags.cert_file
    if not for_proxy and (for_app or flags.proxy or flags.token):
        return frozenset(("app",))
    return frozenset(("auth", "proxy", "app") if for_app else ("auth", "proxy"))


def _check_combination(flags: SampleFlags, roles: frozenset[Role]) -> None:
    if "proxy" in roles and not (flags.cluster_name or flags.public_addr):
        raise ConfigError("--cluster-name is missing", hint=_whole_line(flags))
    if flags.acme and not flags.acme_email:
        raise ConfigError("--acme needs --acme-email", hint=_whole_line(flags))
    if flags.acme_email and not flags.acme:
        raise ConfigError("--acme-email is of no use without --acme", hint=_whole_line(flags))
    if flags.staging and not flags.acme:
        raise ConfigError("--staging is of no use without --acme", hint=_whole_line(flags))
    if bool(flags.cert_file) != bool(flags.key_file):
        raise ConfigError("--cert-file and --key-file go together", hint=_whole_line(flags))
    if flags.acme and flags.cert_file:
        raise ConfigError("--acme gets certificates itself: leave out --cert-file and --key-file")
    if "app" in roles and "proxy" not in roles and not flags.proxy:
        raise ConfigError("--proxy is missing: an agent dials the proxy", hint=_whole_line(flags))
    if bool(flags.app_name) != bool(flags.app_uri):
        raise ConfigError("--app-name and --app-uri go together", hint=_whole_line(flags))
    if flags.app_name and "app" not in roles:
        raise ConfigError("--app-name needs the role app; add it to --roles")


def _whole_line(flags: SampleFlags) -> str:
    """Return the command as it was typed, with what is missing filled in by examples."""
    words = ["tport configure"]
    if flags.roles:
        words.append(f"--roles={','.join(flags.roles)}")
    if flags.acme or flags.acme_email or flags.staging:
        words += ["--acme", f"--acme-email={flags.acme_email or 'you@example.com'}"]
    if flags.staging:
        words.append("--staging")
    if "proxy" in _roles(flags):
        words.append(f"--cluster-name={flags.cluster_name or 'tport.example.com'}")
    elif "app" in _roles(flags):
        words.append(f"--proxy={flags.proxy or 'tport.example.com:3080'}")
    if flags.public_addr:
        words.append(f"--public-addr={flags.public_addr}")
    if flags.cert_file or flags.key_file:
        words.append(f"--cert-file={flags.cert_file or '/path/to/fullchain.pem'}")
        words.append(f"--key-file={flags.key_file or '/path/to/privkey.pem'}")
    if flags.app_name or flags.app_uri:
        words.append(f"--app-name={flags.app_name or 'NAME'}")
        words.append(f"--app-uri={flags.app_uri or 'http://localhost:PORT'}")
    return f"write: {' '.join(words)}"


def _public(flags: SampleFlags) -> Address:
    port = 443 if flags.acme or flags.cert_file else WEB_PORT
    name = "--public-addr" if flags.public_addr else "--cluster-name"
    return judge_flag(
        name, lambda text: parse_public_address(text, port), flags.public_addr or flags.cluster_name
    )


def _instance(flags: SampleFlags) -> list[str]:
    lines = [
        "tport:",
        "  # Keys, the database and the audit log; each role has a folder of its own in it.",
        f"  data_dir: {quoted(flags.data_dir or DATA_DIR)}",
    ]
    if flags.token:
        judge_flag("--token", check_join_secret, flags.token)
        lines += [
            "  # With this an agent joins; an absolute path is read as a file.",
            f"  auth_token: {quoted(flags.token)}",
        ]
    if flags.proxy:
        address = judge_flag(
            "--proxy", lambda text: parse_dial_address(text, WEB_PORT), flags.proxy
        )
        lines += [
            "  # The proxy that agents dial.",
            f"  proxy_server: {quoted(str(address))}",
        ]
    return [*lines, "  log:", "    severity: info", "    format:", "      output: text"]


def _auth(flags: SampleFlags, public: Address | None) -> list[str]:
    name = flags.cluster_name or (public.host if public else "")
    if not name:
        return ["auth_service:", _ON]
    return [
        "auth_service:",
        _ON,
        "  # Fixed at the first start.",
        f"  cluster_name: {quoted(judge_flag('--cluster-name', parse_cluster_name, name))}",
    ]


def _proxy(flags: SampleFlags, public: Address) -> list[str]:
    lines = [
        "proxy_service:",
        _ON,
        f"  web_listen_addr: {quoted(f':{public.port}')}",
        "  # The address users and agents reach the proxy at. Apps are at names below it.",
        f"  public_addr: {quoted(str(public))}",
    ]
    if flags.acme:
        lines += [
            "  # Certificates from Let's Encrypt, for the proxy and for each app; needs port 443.",
            "  acme:",
            '    enabled: "yes"',
            f"    email: {quoted(judge_flag('--acme-email', check_email, flags.acme_email))}",
        ]
        if flags.staging:
            lines += [
                "    # A dry run: browsers know none of these certificates. Without it they count.",
                '    staging: "yes"',
            ]
    elif flags.cert_file:
        lines += [
            "  # Chosen by the name that is asked for, and reloaded when they change.",
            "  https_keypairs:",
            f"  - key_file: {quoted(flags.key_file)}",
            f"    cert_file: {quoted(flags.cert_file)}",
        ]
    else:
        lines.append("  # Without https_keypairs or acme, tport makes its own certificates.")
    return lines


def _app(flags: SampleFlags, public: Address | None) -> list[str]:
    lines = ["app_service:", _ON]
    if not flags.app_name:
        return [
            *lines,
            "  # An app that shows the request it received: for a first try.",
            '  debug_app: "yes"',
            "  apps: []",
        ]
    host = public.host if public else "<proxy>"
    return [
        *lines,
        "  apps:",
        f"  # At https://{flags.app_name}.{host} unless public_addr names another host.",
        f"  - name: {quoted(judge_flag('--app-name', check_app_name, flags.app_name))}",
        f"    uri: {quoted(judge_flag('--app-uri', check_uri, flags.app_uri))}",
    ]
