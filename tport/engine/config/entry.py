"""An application as its entry in `app_service.apps`, as a person would write it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TypeVar

import msgspec

from tport.engine.config.quoting import quoted, scalar
from tport.engine.types.app import (
    App,
    Cors,
    DynamicLabel,
    Header,
    Rewrite,
    Timeouts,
    UpstreamTls,
)

S = TypeVar("S", bound=msgspec.Struct)


def app_yaml(app: App) -> str:
    """Return the lines that begin with `- name: …`, each with its line end.

    Only what differs from its default, in the order of docs/configuration.md; a file that holds
    it gives this very application. Paths of `app.tls` are absolute.
    """
    lines = [
        f"name: {scalar(app.name)}",
        f"uri: {scalar(app.uri)}",
        *_text("public_addr", app.public_addr),
        *_text("description", app.description),
        *_block("labels", _pairs(app.labels)),
        *_items("commands", map(_command, app.commands)),
        *_flag("insecure_skip_verify", app.insecure_skip_verify),
        *_block("tls", _pairs(_changed(app.tls, UpstreamTls()))),
        *_block("timeouts", _timeouts(app.timeouts)),
        *_flag("allow_metadata", app.allow_metadata),
        *_text("cookie_same_site", app.cookie_same_site, default="lax"),
        *(_block("cors", _cors(app.cors)) if app.cors else ()),
        *_row("required_apps", app.required_apps),
        *_text("group", app.group),
        *_flag("session_notice", app.session_notice),
        *_block("rewrite", rewrite_lines(app.rewrite)),
    ]
    return "".join(f"{line}\n" for line in _item(lines))


def rewrite_lines(rewrite: Rewrite, dash: int = 0) -> list[str]:
    """Return what stands below `rewrite:`, not indented.

    Args:
        dash: columns from a setting to the dashes of its list.
    """
    return [
        *_items("redirect", ([scalar(host)] for host in rewrite.redirect), dash),
        *_items("headers", ([header_text(header)] for header in rewrite.headers), dash),
        *_text("jwt_claims", rewrite.jwt_claims, default=Rewrite().jwt_claims),
    ]


def header_text(header: Header) -> str:
    """Return `"Name: value"`, an entry of `rewrite.headers`; without quotes it would be a map."""
    return quoted(f"{header.name}: {header.value}")


def _text(name: str, value: str, *, default: str = "") -> list[str]:
    return [f"{name}: {scalar(value)}"] if value != default else []


def _flag(name: str, value: bool) -> list[str]:
    return [f"{name}: true"] if value else []


def _row(name: str, values: Iterable[str]) -> list[str]:
    row = ", ".join(scalar(value) for value in values)
    return [f"{name}: [{row}]"] if row else []


def _block(name: str, lines: Iterable[str]) -> list[str]:
    below = [f"  {line}" for line in lines]
    return [f"{name}:", *below] if below else []


def _items(name: str, items: Iterable[list[str]], dash: int = 0) -> list[str]:
    below = [" " * dash + line for item in items for line in _item(item)]
    return [f"{name}:", *below] if below else []


def _item(lines: list[str]) -> list[str]:
    return [f"{'  ' if index else '- '}{line}" for index, line in enumerate(lines)]


def _pairs(values: Mapping[str, str]) -> list[str]:
    return [f"{scalar(name)}: {scalar(value)}" for name, value in values.items()]


def _changed(struct: S, default: S) -> dict[str, str]:
    values = msgspec.structs.asdict(struct)
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def _command(label: DynamicLabel) -> list[str]:
    # The program and its arguments always in quotes, as in the documentation's examples.
    command = ", ".join(quoted(word) for word in label.command)
    period = [] if label.period == 60 else [f"period: {_duration(label.period)}"]
    return [f"name: {scalar(label.name)}", f"command: [{command}]", *period]


def _timeouts(timeouts: Timeouts) -> list[str]:
    default = Timeouts()
    return [
        f"{name}: {_duration(seconds)}"
        for name, seconds in msgspec.structs.asdict(timeouts).items()
        if seconds != getattr(default, name)
    ]


def _cors(cors: Cors) -> list[str]:
    return [
        *_row("allowed_origins", cors.allowed_origins),
        *_row("allowed_methods", cors.allowed_methods),
        *_row("allowed_headers", cors.allowed_headers),
        *_row("exposed_headers", cors.exposed_headers),
        *_flag("allow_credentials", cors.allow_credentials),
        *([f"max_age: {cors.max_age}"] if cors.max_age else []),
    ]


def _duration(seconds: float) -> str:
    """Return seconds as Go writes a duration, in the largest unit that leaves no remainder."""
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds and seconds % factor == 0:
            return f"{seconds / factor:.0f}{unit}"
    return f"{Decimal(repr(seconds)):f}".removesuffix(".0") + "s"
