"""What an agent found when it tried an application, and the settings that follow from it."""

from __future__ import annotations

from typing import Literal

import msgspec

from tport.engine.types.app import App, Header, JwtClaims, Rewrite

Check = Literal[
    "connection",  # http or https, and whether anything answers
    "page",  # status, title, how long it took
    "host",  # which Host header the application wants
    "origin",  # whether it compares Origin with Host
    "redirects",  # addresses in Location
    "cookies",  # Domain and SameSite of its cookies
    "websocket",
    "events",  # server-sent events: when the first byte comes
    "headers",  # how large a head it takes
    "path",  # whether it lives in a sub-directory
    "icon",
    "known",  # what such an application needs, by its own documentation
]
Verdict = Literal[
    "ok",
    "note",  # nothing tport can set; worth knowing
    "change",  # the proposal mends it
    "fails",  # it doesn't work, and no setting here mends it
]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check. `saw` is a sentence without its full stop; `advice` what to do, or ""."""

    check: Check
    verdict: Verdict
    saw: str
    advice: str = ""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one application that should be other than they are; empty: as it is.

    Attributes:
        uri: the whole URI.
        host: what the header Host should be, host[:port].
        redirect: hosts to add to `rewrite.redirect`.
    """

    uri: str = ""
    host: str = ""
    redirect: tuple[str, ...] = ()
    insecure_skip_verify: bool = False
    jwt_claims: JwtClaims | None = None

    def __bool__(self) -> bool:
        return self != Proposal()

    def applied(self, app: App) -> App:
        """Return the application with these settings, all else as it is."""
        rewrite = app.rewrite
        headers = rewrite.headers
        if self.host:
            kept = tuple(header for header in headers if header.name.lower() != "host")
            headers = (*kept, Header("Host", self.host))
        return msgspec.structs.replace(
            app,
            uri=self.uri or app.uri,
            insecure_skip_verify=self.insecure_skip_verify or app.insecure_skip_verify,
            rewrite=Rewrite(
                redirect=(*rewrite.redirect, *self.redirect),
                headers=headers,
                jwt_claims=self.jwt_claims or rewrite.jwt_claims,
            ),
        )


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of trying one application.

    Attributes:
        uri: as configured.
        public: host[:port] at which people reach it.
        hostname: of the agent's machine.
        known: the name under which `known_apps.toml` has it; "": it isn't there.
    """

    app: str
    uri: str
    public: str
    hostname: str
    findings: tuple[Finding, ...]
    proposal: Proposal = Proposal()
    known: str = ""
    title: str = ""
