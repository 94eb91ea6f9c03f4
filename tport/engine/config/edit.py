"""Settings put into the text of a tport.yaml, every other character as it was. Pure: text in, text out.

    text ── entry_text.py: pieces replaced, lines added ── text
                                                             │
        the app as proposed, all else as it was ── parsed once more

What the second parse doesn't bear out is refused, so that a wrong edit can never be written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from tport.engine.config.document import Mapping, Node, Scalar, Sequence, parse_document
from tport.engine.config.entry import app_yaml
from tport.engine.config.entry_text import find_entry, put, refusal
from tport.engine.config.load import parse_config
from tport.engine.config.model import Config
from tport.engine.config.resolve import Machine
from tport.engine.errors import InvalidRequest, NotFound, TportError
from tport.engine.types.app import App
from tport.engine.types.probe import Proposal

__all__ = ["app_yaml", "with_proposal"]

_SETTINGS: Final = frozenset(("uri", "insecure_skip_verify", "rewrite"))  # what a proposal is of

# Nothing of a machine is in what is compared.
_NOWHERE: Final = Machine(env={}, home=Path("/"), cwd=Path("/"), hostname="", is_root=False)


def with_proposal(text: str, name: str, proposal: Proposal) -> str:
    """Return `text` with the settings of `proposal` in the entry of the app `name`.

    Everything else stays: comments, blank lines, quotes, line ends. What is written in brackets,
    or shared by an anchor, gets no line added; a Host header that is there keeps its place.

    Args:
        text: of a tport.yaml, its line ends untranslated.

    Raises:
        ConfigError: `text` is no sound file.
        NotFound: it has no such app.
        InvalidRequest: the app is faulty; or its entry can't be edited safely, then in which line
            and why; or with these settings it would be faulty.
    """
    before = _config(text)
    app = _app(before, name)
    entry = find_entry(text, name)
    edited = put(text, entry, _new(proposal, app))
    expected = [
        proposal.applied(app) if other is app else other for other in before.app_service.apps
    ]
    try:
        after = _config(edited)
        _app(after, name)
    except TportError as error:
        raise InvalidRequest(f"with these settings it would not load: {error}") from None
    if list(map(_settled, after.app_service.apps)) != list(map(_settled, expected)) or (
        _others(edited, entry.index) != _others(text, entry.index)
    ):
        raise refusal(entry.node, f"the app {name!r} is written in a way that is not understood")
    return edited


# --- What the text means ---------------------------------------------------------------------


def _config(text: str) -> Config:
    return parse_config(text, name="tport.yaml", folder=Path("/"), machine=_NOWHERE)


def _app(config: Config, name: str) -> App:
    for app in config.app_service.apps:
        if app.name == name:
            return app
    for faulty in config.app_service.faulty:
        if faulty.name == name:
            raise InvalidRequest("\n".join(faulty.complaints), hint="mend this first")
    raise NotFound(f"{name!r} is not in app_service.apps of this file")


def _new(proposal: Proposal, app: App) -> Proposal:
    """Return the part of a proposal that the app does not have yet."""
    there = app.rewrite
    hosts = [header.value for header in there.headers if header.name.lower() == "host"]
    return Proposal(
        uri="" if proposal.uri == app.uri else proposal.uri,
        host="" if [proposal.host] == hosts[-1:] else proposal.host,
        redirect=tuple(
            host for host in dict.fromkeys(proposal.redirect) if host not in there.redirect
        ),
        insecure_skip_verify=proposal.insecure_skip_verify and not app.insecure_skip_verify,
        jwt_claims=None if proposal.jwt_claims == there.jwt_claims else proposal.jwt_claims,
    )


def _settled(app: App) -> App:
    """Return the app in a form in which two that mean the same are equal."""
    hosts = [header for header in app.rewrite.headers if header.name.lower() == "host"]
    others = [header for header in app.rewrite.headers if header not in hosts]
    rewrite = replace(
        app.rewrite,
        headers=(*others, *hosts[-1:]),  # the last of one name wins
        redirect=tuple(dict.fromkeys(app.rewrite.redirect)),
    )
    return replace(app, rewrite=rewrite)


def _others(text: str, index: int) -> list[tuple[tuple[str, ...], object]]:
    """Return every value of the file but for those that a proposal sets, of the app at `index`."""
    entry = ("app_service", "apps", str(index))
    root = parse_document(text)
    return [
        (path, value)
        for path, value in (_values(root, ()) if root else ())
        if path[:3] != entry or not _SETTINGS.intersection(path[3:4])
    ]


def _values(node: Node, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    match node:
        case Mapping(entries=entries):
            yield path, Mapping
            for key, value in entries:
                yield from _values(value, (*path, key.text))
        case Sequence(items=items):
            yield path, Sequence
            for index, item in enumerate(items):
                yield from _values(item, (*path, str(index)))
        case Scalar():
            yield path, (node.text, node.is_null)
