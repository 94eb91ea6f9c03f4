"""DNS: whether the proxy's name, and those of applications, lead to the proxy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final, Literal

import msgspec

from tport.engine.preflight.row import Row, ok, problem, unknown

TTL: Final = 300  # s; while one still tries, a mistake is soon forgotten
_PLACE: Final = "<the address at which others reach it>"


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What became of looking up a name.

    Attributes:
        state: `none`: there is no such name; `failed`: nobody could be asked, or answered.
        addresses: IPv4 and IPv6, sorted; empty unless found.
    """

    name: str
    state: Literal["found", "none", "failed"]
    addresses: tuple[str, ...] = ()


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked up.

    Attributes:
        proxy: the proxy's names that aren't this machine by themselves, the first is the main one.
        wildcards: for each of those, a label below it that nobody has.
        apps: names of this file's applications.
        control: a name that exists wherever DNS does.
        own: addresses of this machine.
        here_only: the proxy's names that every machine takes for itself: `*.localhost`.
        needs_public: whether somebody outside, as a certificate authority, must see it.
        needs_dns: whether tport itself has to look up names, as to find that authority.
    """

    proxy: tuple[Lookup, ...]
    wildcards: tuple[Lookup, ...]
    apps: tuple[Lookup, ...] = ()
    control: Lookup
    own: tuple[str, ...] = ()
    here_only: tuple[str, ...] = ()
    needs_public: bool = False
    needs_dns: bool = False


def judge_names(names: Names) -> list[Row]:
    """Return a row for each name; one alone where this machine can look nothing up."""
    rows = [
        ok(f"dns {name}", "this machine, and every browser's own: others don't reach it")
        for name in names.here_only
    ]
    if not names.proxy:
        return rows
    everything = (*names.proxy, *names.wildcards, *names.apps, names.control)
    if all(lookup.state != "found" for lookup in everything):
        return [*rows, _no_dns(names)]
    for proxy, wildcard in zip(names.proxy, names.wildcards, strict=True):
        rows += [_of_proxy(proxy, names), _of_wildcard(proxy, wildcard, names.apps)]
    for lookup in names.apps:
        row = _of_app(lookup, names.proxy[0])
        above = next((each for each in names.proxy if _is_below(lookup, each)), None)
        # Below the proxy's name the wildcard has spoken for it, unless it has a record of its own.
        if above is None or (lookup.state == "found" and row.verdict == "problem"):
            rows.append(row)
    return rows


def _is_below(lookup: Lookup, proxy: Lookup) -> bool:
    return lookup.name.endswith(f".{proxy.name}")


def _no_dns(names: Names) -> Row:
    asked = ", ".join(lookup.name for lookup in (*names.proxy, names.control))
    make = problem if names.needs_public or names.needs_dns else unknown
    return make(
        "dns",
        f"this machine looks up no name: neither of {asked} is known",
        "see which server it asks: cat /etc/resolv.conf (or resolvectl status). Other machines need"
        f" these records: {zone_line(names.proxy[0].name, _usable(names))}"
        f" and {wildcard_line(names.proxy[0].name)}",
    )


def _of_proxy(lookup: Lookup, names: Names) -> Row:
    check = f"dns {lookup.name}"
    if lookup.state == "failed":
        return unknown(check, "the DNS server does not answer", "try again; see resolvectl status")
    if lookup.state == "none":
        return problem(
            check,
            "there is no such name",
            f"add to the zone: {zone_line(lookup.name, _usable(names))}",
        )
    found = ", ".join(lookup.addresses)
    if all(ip_address(address).is_loopback for address in lookup.addresses):
        return unknown(
            check,
            f"{found}: so this machine's own /etc/hosts says, others may be told another",
            f"ask elsewhere: dig +short {lookup.name}",
        )
    private = [address for address in lookup.addresses if not ip_address(address).is_global]
    if names.needs_public and private:
        return problem(
            check,
            f"{found}: the Internet has no way to {', '.join(private)}",
            f"ACME needs a public address: {zone_line(lookup.name, _usable(names))}",
        )
    if set(lookup.addresses) & set(names.own):
        return ok(check, f"{found}, this machine")
    return ok(check, f"{found}: no address of this machine, but of what stands before it")


def _of_wildcard(proxy: Lookup, wildcard: Lookup, apps: Sequence[Lookup]) -> Row:
    check = f"dns *.{proxy.name}"
    if wildcard.state == "failed":
        return unknown(check, "the DNS server does not answer", "try again; see resolvectl status")
    if wildcard.state == "none":
        below = [lookup for lookup in apps if _is_below(lookup, proxy)]
        if below and all(lookup.state == "found" for lookup in below):
            return ok(check, "no wildcard, but a record for each application of this file")
        return problem(
            check,
            "there is none: applications below it have no address",
            f"add to the zone: {wildcard_line(proxy.name)}",
        )
    found = ", ".join(wildcard.addresses)
    if proxy.state == "found" and set(wildcard.addresses) != set(proxy.addresses):
        return problem(
            check,
            f"{found}, and the proxy is at {', '.join(proxy.addresses)}",
            f"let it follow the proxy: {wildcard_line(proxy.name)}",
        )
    return ok(check, found)


def _of_app(lookup: Lookup, proxy: Lookup) -> Row:
    check = f"dns {lookup.name}"
    if lookup.state == "failed":
        return unknown(check, "the DNS server does not answer", "try again; see resolvectl status")
    if lookup.state == "none":
        return problem(
            check,
            "there is no such name",
            f"add to the zone: {lookup.name}. {TTL} IN CNAME {proxy.name}.",
        )
    found = ", ".join(lookup.addresses)
    if proxy.state == "found" and set(lookup.addresses) != set(proxy.addresses):
        return problem(
            check,
            f"{found}, and the proxy is at {', '.join(proxy.addresses)}",
            f"an application's name leads to the proxy: {lookup.name}. {TTL} IN CNAME {proxy.name}.",
        )
    return ok(check, found)


# --- Lines of a zone -------------------------------------------------------------------------------


def zone_line(name: str, addresses: Sequence[str]) -> str:
    """Return the records for a name: `name. 300 IN A 203.0.113.7`."""
    if not addresses:
        return f"{name}. {TTL} IN A {_PLACE}"
    return " and ".join(
        f"{name}. {TTL} IN {'AAAA' if ':' in address else 'A'} {address}" for address in addresses
    )


def wildcard_line(name: str) -> str:
    return f"*.{name}. {TTL} IN CNAME {name}."


def _usable(names: Names) -> list[str]:
    """Return the addresses of this machine that others can mean, public ones if there are any."""
    public = [address for address in names.own if ip_address(address).is_global]
    if public or names.needs_public:
        return public
    return [address for address in names.own if not ip_address(address).is_loopback]
