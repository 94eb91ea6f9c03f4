"""The script by which an application's pages tell that the session there is over: `/.tport/notice.js`.

For applications that ask for it (`session_notice`) and include it themselves; nothing is ever
put into an application's pages. It works as an external script under a strict policy: no inline
style or handler, no HTML from text, and no request but to `/.tport/session`, which wants
`connect-src 'self'`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

SCRIPT: Final = files("tport.engine.proxy").joinpath("notice.js").read_bytes()

HEADERS: Final = (
    (b"content-type", b"application/javascript"),
    (b"cache-control", b"private, max-age=300"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
