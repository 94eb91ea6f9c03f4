"""Where no agent connects to unless its file says so: what clouds keep for their machines. Pure.

Behind these addresses a cloud hands out a machine's credentials to whoever asks from there: an
application's name that leads to one (by mistake, or because somebody else's DNS says so) would
hand them to people in browsers (AG-07).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

_METADATA: Final = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local: AWS, Google, Azure, Oracle, containers' 169.254.170.2
        "fe80::/10",
        "fd00:ec2::254/128",  # AWS
        "fd20:ce::254/128",  # Google
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's host
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052


def is_metadata(address: str) -> bool:
    """Tell whether an IP address, or the IPv4 one inside of it, is such a place.

    What is no address is none: names are judged by what they lead to.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    candidates = [parsed, *(_within(parsed) if isinstance(parsed, IPv6Address) else ())]
    return any(candidate in network for candidate in candidates for network in _METADATA)


def _within(address: IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that this one is a coat of."""
    inner = [address.ipv4_mapped, address.sixtofour]
    if address.teredo is not None:
        inner += address.teredo
    if address in _NAT64 or int(address) >> 32 == 0:  # the latter: "IPv4-compatible", RFC 4291
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in inner if each is not None]
