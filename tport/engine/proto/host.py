"""Host names in one form, whoever says them: SNI, Host, public_addr, redirects. Sans-IO.

Two names are the same host if and only if their normal forms are equal bytes, so that nobody
compares hosts in any other way (TLS-11).
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from tport.engine.errors import InvalidRequest

MAX_HOST = 253  # characters of a name in text form, RFC 1035 §2.3.4

# LDH labels (RFC 5890 §2.3.1). No `$` anywhere: it matches before a trailing newline.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PORT = re.compile(rb"[1-9][0-9]{0,4}")  # no leading zero: one port, one spelling


def normalise_host(host: str) -> str:
    """Return the one form of a host name or address: lower case, without the root's dot.

    IPv4 stays as it is, IPv6 keeps its brackets and is shortened.

    Raises:
        InvalidRequest: not an LDH name, not a whole IPv4 address, not an IPv6 one in brackets.
    """
    if host.startswith("["):
        return _normal_ipv6(host)
    # ASCII first: str.lower() would turn the Kelvin sign into a k.
    name = host.lower().removesuffix(".") if host.isascii() else ""
    if len(name) > MAX_HOST or not _NAME.fullmatch(name):
        raise InvalidRequest(f"{host[:MAX_HOST]!r} is no host name")
    if name[name.rfind(".") + 1 :].isdigit() and not _is_ipv4(name):
        # Resolvers take 127.1 or 2130706433 for an address; browsers refuse or rewrite it.
        raise InvalidRequest(f"{host!r} is neither a host name nor a whole IPv4 address")
    return name


def split_host(value: bytes) -> tuple[str, int | None]:
    """Return the normal host and the port (None: not said) of a Host header's value.

    Raises:
        InvalidRequest: see `normalise_host`; or the port isn't 1 to 65535 in plain digits.
    """
    host, port = value, None
    if not value.endswith(b"]"):
        before, colon, after = value.rpartition(b":")
        if colon:
            host, port = before, _port(after)
    return normalise_host(host.decode("latin-1")), port


def is_address(host: str) -> bool:
    """Tell whether a normal host is an IP address and not a name."""
    return host.startswith("[") or _is_ipv4(host)


def is_public_name(host: str) -> bool:
    """Tell whether a normal host is a name that an authority for the Internet could vouch for."""
    return "." in host and not is_address(host) and not host.endswith(".localhost")


def _port(digits: bytes) -> int:
    if not _PORT.fullmatch(digits) or int(digits) > 65535:
        raise InvalidRequest(f"{digits[:20].decode('latin-1')!r} is no port")
    return int(digits)


def _normal_ipv6(host: str) -> str:
    text = host.removeprefix("[").removesuffix("]")
    try:
        if host != f"[{text}]" or "%" in text:  # a zone means nothing on another machine
            raise AddressValueError(host)
        return f"[{IPv6Address(text).compressed}]"
    except AddressValueError:
        raise InvalidRequest(f"{host[:MAX_HOST]!r} is no IPv6 address in brackets") from None


def _is_ipv4(name: str) -> bool:
    try:
        IPv4Address(name)
    except AddressValueError:
        return False
    return True
