"""The files that pages are made of: templates, stylesheets, scripts, one icon.

All are read once, when this module is first imported, and served from memory under names that
hold a hash of their content, so that a browser may keep them for ever.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final, NamedTuple

import jinja2

_FOLDER = files("tport.engine.web")


class Asset(NamedTuple):
    """A file. `url`: path on the proxy's host. `gzipped`: `body`, for who takes that: a third of it."""

    url: str
    media_type: str
    body: bytes
    gzipped: bytes


def _load(name: str, media_type: str, *imports: Asset) -> Asset:
    """Read a file; a script's `./name.js` becomes the address of that one of `imports`."""
    body = _FOLDER.joinpath("static", name).read_bytes()
    for asset in imports:
        stem, _, extension = asset.url.removeprefix("/static/").split(".")
        body = body.replace(f'"./{stem}.{extension}"'.encode(), f'"{asset.url}"'.encode())
    stem, extension = name.rsplit(".", 1)
    url = f"/static/{stem}.{hashlib.sha256(body).hexdigest()[:16]}.{extension}"
    return Asset(url, media_type, body, gzip.compress(body, mtime=0))


STYLE: Final = _load("tport.css", "text/css; charset=utf-8")
FRAME_STYLE: Final = _load("frame.css", "text/css; charset=utf-8")  # of who is signed in
FRAME_SCRIPT: Final = _load("frame.js", "text/javascript; charset=utf-8")
AUDIT_STYLE: Final = _load("audit.css", "text/css; charset=utf-8")
API_SCRIPT: Final = _load("api.js", "text/javascript; charset=utf-8")  # that others import
AUDIT_SCRIPT: Final = _load("audit.js", "text/javascript; charset=utf-8", API_SCRIPT)
ROLE_SCRIPT: Final = _load("role.js", "text/javascript; charset=utf-8", API_SCRIPT)
SCRIPT: Final = _load("apps.js", "text/javascript; charset=utf-8", API_SCRIPT)
PASSKEY_SCRIPT: Final = _load("passkey.js", "text/javascript; charset=utf-8")
REFUSED_SCRIPT: Final = _load("refused.js", "text/javascript; charset=utf-8", API_SCRIPT)
ICON: Final = _load("favicon.svg", "image/svg+xml")
ASSETS: Final[Mapping[str, Asset]] = {
    asset.url: asset
    for asset in (
        STYLE,
        FRAME_STYLE,
        FRAME_SCRIPT,
        API_SCRIPT,
        AUDIT_STYLE,
        AUDIT_SCRIPT,
        ROLE_SCRIPT,
        SCRIPT,
        PASSKEY_SCRIPT,
        REFUSED_SCRIPT,
        ICON,
    )
}

# Error pages appear on the applications' own hosts, where nothing else is ours to serve: they
# carry the stylesheet and the icon with them, the style allowed by its hash.
INLINE_STYLE: Final = re.sub(r"/\*.*?\*/|(?<=\n)\s+", "", STYLE.body.decode(), flags=re.DOTALL)
INLINE_STYLE_HASH: Final = (
    f"'sha256-{base64.b64encode(hashlib.sha256(INLINE_STYLE.encode()).digest()).decode()}'"
)
INLINE_ICON: Final = "data:image/svg+xml;base64," + base64.b64encode(ICON.body).decode()


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tport.engine.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for name in environment.list_templates():
        environment.get_template(name)  # compiled now, never while a request waits
    return environment


TEMPLATES: Final = _environment()
