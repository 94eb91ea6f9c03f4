"""host:port as people write it: to listen on, to dial, to be known by."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

import msgspec

from tport.engine.config.words import shown
from tport.engine.errors import InvalidRequest
from tport.engine.proto.host import is_address, normalise_host

_PORT = re.compile(r"[0-9]{1,5}")


class Address(msgspec.Struct, frozen=True):
    """A host and a TCP port.

    Attributes:
        host: a normal name or IPv4 address, an IPv6 address without brackets; "": every
            interface of this machine, only where we listen.
        port: 0, only where we listen: any free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen_address(text: str, default_port: int | None = None) -> Address:
    """Read `0.0.0.0:3080`, `:443`, `[::1]:0`; without a port, `default_port`.

    Raises:
        InvalidRequest: it is no address, or no port is given and there is no default.
    """
    host, port = split_port(text)
    if port is None:
        port = default_port
    if port is None:
        raise InvalidRequest(f"{shown(text)} has no port; write host:port, as in 127.0.0.1:3000")
    return Address(_host(host) if host else "", port)


def parse_diag_address(text: str) -> Address:
    """Read where diagnostics listen: without a host, on this machine alone.

    Raises:
        InvalidRequest: as `parse_listen_address`.
    """
    address = parse_listen_address(text)
    return Address(address.host or "127.0.0.1", address.port)


def parse_dial_address(text: str, default_port: int) -> Address:
    """Read the address of another machine; without a port, `default_port`.

    Raises:
        InvalidRequest: it is no address that can be dialled.
    """
    host, port = split_port(text)
    if not host or port == 0:
        raise InvalidRequest(
            f"{shown(text)} is no address; write host:port, as in tport.example.com:{default_port}"
        )
    return Address(_host(host), default_port if port is None else port)


def parse_public_address(text: str, default_port: int) -> Address:
    """Read an address that browsers use: a DNS name, for TLS and cookies need one.

    Raises:
        InvalidRequest: it has a scheme, a path or a wildcard, or is an IP address.
    """
    if "*" in text:
        raise InvalidRequest(
            f"{shown(text)} has a wildcard; name the one host that people type, as in tport.example.com"
        )
    address = parse_dial_address(text, default_port)
    if ":" in address.host or is_address(address.host):
        raise InvalidRequest(f"{shown(text)} is an IP address; browsers need a DNS name here")
    return address


def split_port(text: str) -> tuple[str, int | None]:
    """Split off the port; the host keeps its form, and is "" in `:443`.

    Raises:
        InvalidRequest: it is a URL, or the port isn't 0 to 65535.
    """
    scheme, separator, _ = text.partition("://")
    if separator:
        raise InvalidRequest(f"{shown(text)} has a scheme; leave out '{scheme}://'")
    if "/" in text:
        raise InvalidRequest(f"{shown(text)} has a path; write host:port")
    if text.count(":") > 1 and not text.startswith("["):
        raise InvalidRequest(f"{shown(text)}: put an IPv6 address in brackets, as in [::1]:3080")
    if text.endswith("]") or ":" not in text:
        return text, None
    host, _, digits = text.rpartition(":")
    if not _PORT.fullmatch(digits) or int(digits) > 65535:
        raise InvalidRequest(f"{shown(digits)} is no port (1 to 65535)")
    return host, int(digits)


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        try:
            return IPv6Address(text[1:-1]).compressed
        except AddressValueError:
            raise InvalidRequest(f"{shown(text)} is no IPv6 address") from None
    return normalise_host(text)
