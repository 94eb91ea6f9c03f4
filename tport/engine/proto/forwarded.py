"""Who a request comes from when proxies of the operator's stand between. Sans-IO.

A header counts only as far as those who wrote it are trusted by address; an empty list trusts
nobody, and then X-Forwarded-For is a stranger's word (HTTP-14).
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from tport.engine.errors import InvalidRequest
from tport.engine.proto.fields import Headers, values

MAX_HOPS: Final = 32  # entries of X-Forwarded-For that are looked at, the last ones

Network = IPv4Network | IPv6Network


def parse_network(text: str) -> Network:
    """Read `10.0.0.0/8`, or one address.

    Raises:
        InvalidRequest: neither, one with bits beyond its prefix, or one that is everybody.
    """
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise InvalidRequest(f"{text[:80]!r} is no network, as in 10.0.0.0/8") from None
    if "/" in text and not text.startswith(str(network.network_address) + "/"):
        raise InvalidRequest(f"{text[:80]!r} has bits beyond its prefix; write {network}")
    if network.prefixlen == 0:
        raise InvalidRequest(f"{text[:80]!r} is everybody, who could then be anybody")
    return network


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether an IP address is in one of the networks; what is no address is in none."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def client_address(peer: str, headers: Headers, trusted: Sequence[Network]) -> str:
    """Return the address that a request comes from, as far as one can know.

    X-Forwarded-For is read from its end: each entry was added by who stands before it, so that
    the first one that isn't a trusted proxy is the client, and what stands before that is the
    client's own invention. Where an entry is no address, the last good one counts.
    """
    if not is_within(peer, trusted):
        return peer
    client = peer
    entries = b",".join(values(headers, b"x-forwarded-for")).split(b",")
    for entry in reversed(entries[-MAX_HOPS:]):
        address = _entry(entry.strip(b" \t"))
        if address is None:
            break
        client = address
        if not is_within(client, trusted):
            break
    return client


def without_mapping(address: IPv4Address | IPv6Address) -> str:
    """Return an address in its one form: an IPv4 one that is written as IPv6, as IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _entry(entry: bytes) -> str | None:
    """Return the address of an entry, which may have a port behind it."""
    text = entry.decode("latin-1")
    if text.startswith("["):
        text, bracket, _ = text[1:].partition("]")
        if not bracket:
            return None
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return None  # a zone means nothing on another machine
    return without_mapping(address)
