"""What an application's definition may say, rule by rule. Pure; for the file and the flags alike."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from tport.engine.access.cors import ANY
from tport.engine.access.templates import parse_template
from tport.engine.config.address import parse_public_address, split_port
from tport.engine.config.words import shown
from tport.engine.errors import InvalidRequest
from tport.engine.proto.fields import HOP_BY_HOP, fold
from tport.engine.proto.host import normalise_host, split_host
from tport.engine.types.app import KEPT, MAX_LABEL_VALUE, Header, is_label

MAX_URI: Final = 2048  # characters; far beyond any base of an application

_URI_TEXT = re.compile(r"[!-~]+")  # printable ASCII: the rest is percent-encoded, RFC 3986 §2
_URI_UNSAFE = frozenset('"<>\\^`{|}')
_URI_NAME = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?"
)  # `_`: container names
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token, RFC 9110 §5.6.2
_HEADER_VALUE = re.compile(r"[\t -~]*")

# The guide's; compared by folded name, so that no spelling an app might take for one gets by.
_RESERVED = frozenset(
    (b"x-teleport-jwt", b"teleport-jwt-assertion", b"cf-access-token", b"forwarded", b"x-real-ip")
)
_RESERVED_PREFIX = b"x-forwarded-"


def typed_uri(text: str) -> str:
    """Return the URI that somebody means who types it as into a browser, or a port alone. Unchecked."""
    if text.isascii() and text.isdigit():
        return f"http://localhost:{text}"
    return text if "://" in text else f"http://{text}"


def check_uri(text: str) -> str:
    """Return the URI of an application when an agent can dial it (AG-07).

    Raises:
        InvalidRequest: not http or https, no host, a bad port, a user name or password in it
            (the message then doesn't show it), or characters that no URI has.
    """
    authority = text.partition("://")[2].partition("/")[0]
    if "@" in authority:
        raise InvalidRequest(
            "has a user name or password in it; leave that out, and send it by"
            " rewrite.headers: Authorization in the agent's file, where it stays"
        )
    if len(text) > MAX_URI or not _URI_TEXT.fullmatch(text) or _URI_UNSAFE & set(text):
        raise InvalidRequest(
            f"{shown(text)} is no URI (ASCII without spaces, at most {MAX_URI}; encode the rest as"
            " %XX)"
        )
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise InvalidRequest(f"{shown(text)} has no scheme; did you mean 'http://{text}'?")
    if scheme.lower() == "tcp":
        raise InvalidRequest("TCP applications are not supported; expected http:// or https://")
    if scheme.lower() not in ("http", "https"):
        raise InvalidRequest(f"{shown(scheme)} is not served; expected http:// or https://")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidRequest(
            f"{shown(text)} has a bad host or port; expected http://host:port (1 to 65535)"
        ) from None
    if not host:
        raise InvalidRequest(f"{shown(text)} has no host; expected http://host:port")
    if port == 0 or parts.netloc.endswith(":"):
        raise InvalidRequest(f"{shown(text)} has a bad port; expected 1 to 65535, or none at all")
    if parts.netloc.startswith("["):
        normalise_host(f"[{host}]")
    elif not _URI_NAME.fullmatch(host):
        raise InvalidRequest(f"{shown(host)} is no host name")
    return text


def check_public_addr(text: str, proxy_hosts: Collection[str]) -> str:
    """Return the normal form of an application's own address: a DNS name (AG-04).

    Args:
        proxy_hosts: the proxy's own names, normal, as far as they are known here.

    Raises:
        InvalidRequest: a scheme, port, path, wildcard or IP address; or a name at which the
            proxy itself is, or a domain above it, whose cookies and pages are not an app's; or
            one that auth will refuse, more than one label below it.
    """
    if split_port(text)[1] is not None:
        raise InvalidRequest(
            f"{shown(text)} has a port; applications share the proxy's, so give the name alone"
        )
    host = parse_public_address(text, 443).host
    for proxy in proxy_hosts:
        if host == proxy:
            raise InvalidRequest(f"{shown(text)} is the proxy's own address; give another name")
        if proxy.endswith(f".{host}"):
            raise InvalidRequest(
                f"{shown(text)} is a domain above the proxy's own {proxy!r}; give a name beside or"
                " below it"
            )
    if fault := depth_fault(host, proxy_hosts):
        raise InvalidRequest(f"{shown(text)} {fault}")
    return host


def depth_fault(host: str, proxy_hosts: Collection[str]) -> str:
    """Return what is wrong with a normal host more than one label below a proxy's; "": it isn't."""
    label, _, parent = host.partition(".")
    above = sorted(proxy for proxy in proxy_hosts if host.endswith(f".{proxy}"))
    if not above or parent in proxy_hosts:
        return ""
    return (
        f"is more than one label below {above[0]}, where neither *.{above[0]} in DNS nor such a"
        f" certificate reaches; take {label}.{above[0]}"
    )


def check_redirect(text: str) -> str:
    """Return the normal form of a host whose Location headers are rewritten."""
    host, port = split_port(text)
    if port is not None:
        raise InvalidRequest(f"{shown(text)} has a port; give the host alone, any port matches")
    return normalise_host(host)


def check_server_name(text: str) -> str:
    """Return the name that an application's certificate must hold: a host, IPv6 without brackets."""
    host = f"[{text}]" if ":" in text else text
    return normalise_host(host).strip("[]")


def check_origin(text: str) -> str:
    """Return the form in which browsers send an origin of `cors`; or `*`, which is all of them.

    Raises:
        InvalidRequest: anything else, `null` among it: that is anybody (WEB-13).
    """
    if text == ANY:
        return text
    problem = InvalidRequest(f"{shown(text)} is no origin, as in https://app.example.com")
    scheme, separator, rest = text.removesuffix("/").partition("://")
    scheme = scheme.lower()
    if scheme not in ("http", "https") or not separator:
        raise problem
    try:
        host, port = split_host(rest.encode("ascii"))
    except (InvalidRequest, UnicodeEncodeError):
        raise problem from None
    default = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}" if port in (None, default) else f"{scheme}://{host}:{port}"


def parse_header(text: str) -> Header:
    """Read `Name: value` as one header for the application.

    Raises:
        InvalidRequest: no colon, characters that no header has, a template that is none, what
            others see in the place of a value, or a name that tport sets itself (HTTP-13). The
            message doesn't show the value, which may be a password: an agent tells the cluster
            what is faulty.
    """
    name, colon, value = text.partition(":")
    name, value = name.rstrip(), value.strip()
    # No word of these is quoted: where it isn't clear what the name is, each may be the password.
    if not colon:
        raise InvalidRequest("has no colon; expected 'Name: value'")
    if not _HEADER_NAME.fullmatch(name):
        raise InvalidRequest("begins with no header name; expected 'Name: value'")
    if KEPT in value:
        raise InvalidRequest(
            f"{name}: {KEPT!r} stands where only the agent knows the value",
            hint="put the value itself here",
        )
    if not _HEADER_VALUE.fullmatch(value):
        raise InvalidRequest(f"{name}: the value has characters beyond printable ASCII")
    if is_reserved_header(name):
        raise InvalidRequest(f"{name} is reserved: tport sets it itself")
    try:
        parse_template(value)
    except InvalidRequest as problem:
        told = str(problem).replace(repr(value), "its value")
        raise InvalidRequest(f"{name}: {told}", hint=problem.hint) from None
    return Header(name, value)


def is_reserved_header(name: str) -> bool:
    """Tell whether no file may set this header, however it is spelled (HTTP-12).

    Beside what tells who is calling, that is what frames a message or belongs to one hop.
    """
    folded = fold(name.encode())
    return folded in _RESERVED or folded in HOP_BY_HOP or folded.startswith(_RESERVED_PREFIX)


def check_label(name: str, value: str = "") -> None:
    """Raise InvalidRequest unless a label may have this name and value."""
    if not is_label(name, ""):
        raise InvalidRequest(
            f"{shown(name)} is no label name (letters, digits and _ . : / -, at most 128, first a"
            " letter or digit)"
        )
    if not is_label(name, value):
        raise InvalidRequest(
            f"the value is longer than {MAX_LABEL_VALUE} characters or not printable"
        )


def check_command(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return a dynamic label's command: the program by its absolute path, then its arguments.

    Raises:
        InvalidRequest: it would depend on a search path or a working directory.
    """
    if not command or not command[0]:
        raise InvalidRequest('is missing; expected a list, as in ["/usr/bin/uname", "-r"]')
    if not command[0].startswith("/"):
        raise InvalidRequest(
            f"{shown(command[0])} is no absolute path; a program is not searched for, write for"
            f" example /usr/bin/{command[0].rpartition('/')[2]}"
        )
    if any("\0" in word for word in command):
        raise InvalidRequest("no program takes an argument with a NUL character")
    return command
