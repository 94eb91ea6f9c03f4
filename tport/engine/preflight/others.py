"""Those whom the cluster needs or serves: certificate authority, proxy, applications. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.pki.authority import check_bundle
from tport.engine.preflight.row import Row, ok, problem, unknown


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an address answered.

    Attributes:
        status: of HTTP; 0: there was no answer.
        said: why there was none, in words; `advice`: what to do about that.
        milliseconds: until the head was here.
    """

    status: int = 0
    said: str = ""
    advice: str = ""
    milliseconds: float = 0.0


TokenState = Literal["none", "sound", "unreadable", "malformed"]


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """Why an agent may believe the proxy that it reached.

    Attributes:
        cluster: whose proxy it says it is; "": it is none, or wasn't reached.
        said: what went wrong on the way; `advice`: what to do about it.
        pins: whether there are any, and whether they are those of what the proxy shows.
        verified: public authorities vouch for its certificate.
        joined: when the certificate of an agent that joined already ends; "": it hasn't.
        token: what its join token is.
    """

    cluster: str = ""
    said: str = ""
    advice: str = ""
    pins: Literal["none", "match", "differ"] = "none"
    verified: bool = False
    joined: str = ""
    token: TokenState = "none"  # noqa: S105 - no secret
    token_said: str = ""


def judge_pins(
    pins: Sequence[str], host: Sequence[str], web: Sequence[str]
) -> Literal["none", "match", "differ"]:
    """Tell whether every pin is that of the authorities (PEM) which a proxy shows."""
    try:
        for pin in pins:
            check_bundle(pin, host, web)
    except (AccessDenied, InvalidRequest):
        return "differ"
    return "match" if pins else "none"


def judge_directory(uri: str, answer: Answer) -> Row:
    """Judge the directory of an ACME server."""
    if answer.status == 200:
        return ok("acme directory", f"{uri} answers")
    if answer.status:
        return problem(
            "acme directory",
            f"{uri} answers {answer.status}",
            "expected an ACME server's directory: proxy_service.acme.uri",
        )
    return problem(
        "acme directory",
        f"{uri}: {answer.said}",
        answer.advice or "the proxy fetches certificates there: let it out on port 443",
    )


def judge_proxy(address: str, trust: Trust) -> list[Row]:
    """Judge what an agent needs of its proxy, and what it brings."""
    rows = []
    if not trust.cluster:
        rows.append(problem("proxy", trust.said or f"{address} is not reached", trust.advice))
    else:
        rows.append(ok("proxy", f"{address} answers, of the cluster {trust.cluster}"))
        rows.append(_of_trust(trust))
    rows.append(_of_token(trust))
    return rows


def _of_trust(trust: Trust) -> Row:
    check = "proxy's authorities"
    if trust.pins == "differ":
        return problem(
            check,
            "are not those of the pin: another cluster's proxy, or somebody sits between",
            "make a new token on the auth service of the cluster you mean: tport tokens add",
        )
    if trust.pins == "match":
        return ok(check, "are those of the pin")
    if trust.joined:
        return ok(check, "are remembered from joining")
    if trust.verified:
        return ok(check, "its certificate is vouched for by a public authority")
    return problem(
        check,
        "nothing vouches for them: there is no pin, and the certificate is of no public authority",
        "a join token carries the pin (tport tokens add); or say ca_pin: what follows the dot in one",
    )


def _of_token(trust: Trust) -> Row:
    check = "joining"
    if trust.joined:
        return ok(check, f"has joined; its certificate, renewed by itself, lasts to {trust.joined}")
    make_one = "make one where auth runs, and put it into a file: tport tokens add --type=app"
    match trust.token:
        case "none":
            return problem(
                check, "there is no join token", f"{make_one}; auth_token names the file"
            )
        case "sound":
            return ok(check, "there is a join token; whether it still counts, only its use tells")
        case "unreadable":
            return problem(check, f"the token's file: {trust.token_said}", "auth_token names it")
    return problem(check, "auth_token is no join token", make_one)


def judge_app(name: str, uri: str, answer: Answer) -> Row:
    check = f"app {name}"
    if not answer.status:
        return problem(check, f"{uri}: {answer.said}", answer.advice)
    if answer.status >= 500:
        return problem(check, f"{uri} answers {answer.status}", "its own log says why")
    found = f"{uri} answers {answer.status} in {answer.milliseconds:.0f} ms"
    if answer.status == 400:
        return unknown(check, found, f"it may refuse a name: tport apps check {name} finds out")
    return ok(check, found)
