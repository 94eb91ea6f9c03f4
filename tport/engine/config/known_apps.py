"""Applications that many people run: where they listen, and what they need behind a proxy. Pure.

So that `tport start --roles=app --app-name=grafana` needs no URI, and `tport apps check` says what
to set on the application's own side. The data is known_apps.toml, from each project's own
documentation and source; docs/known-applications.md shows it to people.
"""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Literal

import msgspec

from tport.engine.proto.fields import Headers, values


class KnownApp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An application, and what its own project says of it; "" where nothing is said or known.

    Attributes:
        name: what people call theirs; likewise `aliases`.
        title: in the title of its pages, and what it is called to people.
        port: where it listens unless told otherwise.
        header: in its answers: a header's name, lower case, or `name: beginning of the value`.
        body: in the source of its first page, or in what it says to a Host that it refuses.
        host: the header Host that it wants: that of its `uri`, when it refuses names that it
            doesn't know; the public one, when it compares Origin with Host, or makes links of it.
        websocket: where one of its WebSockets is, a path with its query.
        events: where one of its streams of server-sent events is.
        path: the sub-directory that it lives in, as `/path/`.
        needs: what to set on its own side, in sentences for a person.
    """

    name: str
    aliases: tuple[str, ...] = ()
    title: str
    port: int
    header: str = ""
    body: str = ""
    host: Literal["uri", "public", ""] = ""
    websocket: str = ""
    events: str = ""
    path: str = ""
    needs: str = ""


@lru_cache(maxsize=1)
def known_apps() -> tuple[KnownApp, ...]:
    """Return all of them, in the order of the file."""
    text = files(__package__).joinpath("known_apps.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text)["app"], tuple[KnownApp, ...])


def known_app(name: str) -> KnownApp | None:
    """Return what is known of an application that somebody named so; only a guess. None: nothing."""
    return next((known for known in known_apps() if name in (known.name, *known.aliases)), None)


def recognise(title: str, headers: Headers, body: bytes) -> KnownApp | None:
    """Tell by an answer which application it is; None: one that isn't known here.

    What only one program says counts before a title, which may be of a page about another.

    Args:
        title: of the page; "": it has none.
        headers: names lower case.
        body: its beginning.
    """
    for known in known_apps():
        if _has_header(known, headers) or (known.body and known.body.encode() in body):
            return known
    named = [known for known in known_apps() if known.title.casefold() in title.casefold()]
    return max(named, key=lambda known: len(known.title), default=None)


def usual_uri(name: str) -> str:
    """Return where an application of this name usually is on its own machine; "": not known."""
    known = known_app(name)
    return f"http://localhost:{known.port}" if known else ""


def _has_header(known: KnownApp, headers: Headers) -> bool:
    name, _, beginning = known.header.partition(": ")
    return bool(name) and any(
        value.lower().startswith(beginning.encode()) for value in values(headers, name.encode())
    )
