"""Ports: whether the proxy can listen, and is found at its public address. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from tport.engine.defaults import HTTP_PORT
from tport.engine.preflight.row import Row, ok, problem, unknown


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """An address that a service will listen on.

    Attributes:
        state: `serving`: a tport proxy answers there already; `forbidden`: not by this user.
        said: what trying to listen said, when it failed, and what it advised.
    """

    address: str
    port: int
    state: Literal["free", "serving", "taken", "forbidden"]
    said: str = ""
    advice: str = ""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What came of dialling a public address from this machine.

    Attributes:
        outcome: `here`: it led to this machine's own listener; `tport`: to a proxy of tport;
            `other`: to something else; `failed`: nowhere; `untried`: there was nothing to dial.
        said: what dialling said when it failed.
    """

    address: str
    outcome: Literal["here", "tport", "other", "failed", "untried"]
    said: str = ""


def judge_port(check: str, port: Port) -> Row:
    match port.state:
        case "free":
            return ok(check, f"{port.address} is free")
        case "serving":
            return ok(check, f"{port.address}: tport serves there")
        case "forbidden":
            return unknown(
                check,
                f"{port.address}: {port.said}",
                "as a service it may (tport install systemd); try this again with sudo",
            )
    return problem(check, f"{port.address}: {port.said}", port.advice)


def judge_reach(check: str, reach: Reach) -> Row:
    """Judge from inside what matters from outside: only what answers wrongly is surely wrong."""
    match reach.outcome:
        case "here":
            return ok(check, f"{reach.address} leads here")
        case "tport":
            return ok(check, f"tport answers at {reach.address}")
        case "other":
            return problem(
                check,
                f"what answers at {reach.address} is not this machine's tport",
                "look at the DNS record, and at what forwards this port",
            )
        case "failed":
            return unknown(
                check,
                f"from this machine it isn't reached: {reach.said}",
                "behind NAT that may be all right; from another machine try: curl -sv"
                f" https://{reach.address}/webapi/ping",
            )
    return unknown(check, f"{reach.address} wasn't tried: {reach.said}")


def judge_acme_port(
    public: int, listen: int, *, http: int | None = None, by_dns: bool = False
) -> Row:
    """TLS-ALPN-01 comes to port 443 and no other, HTTP-01 to 80. Source: RFC 8737 §3, RFC 8555 §8.3.

    Args:
        http: where tport listens for HTTP-01; None: nowhere.
        by_dns: a hook proves the proxy's names, by DNS-01.
    """
    if by_dns:
        return ok("acme port", "none is needed: acme.dns_hook proves the proxy's names")
    if http is not None and http != HTTP_PORT:
        return unknown(
            "acme port",
            f"the authority connects to port {HTTP_PORT}, and tport listens on {http} for it",
            f"something must pass {HTTP_PORT} on to {http}",
        )
    if http is not None:
        return ok("acme port", f"{HTTP_PORT}, for HTTP-01")
    if public != 443:
        return problem(
            "acme port",
            f"the authority connects to port 443, and the public address has {public}",
            'say public_addr: "NAME:443" and web_listen_addr: ":443", or use https_keypairs',
        )
    if listen != 443:
        return unknown(
            "acme port",
            f"the authority connects to port 443, and tport listens on {listen}",
            f"something must pass 443 on to {listen} as it is, without ending TLS",
        )
    return ok("acme port", "443, for TLS-ALPN-01")
