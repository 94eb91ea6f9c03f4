"""HSTS: whether a browser is told to come by HTTPS only, and to let nobody click a warning away.

That is said where browsers know the certificate's authority as it is: of files and of ACME. Never
with the own authority's: who has not added it yet, or has it no more, would be locked out. Never of
sub-domains, which may be somebody else's. And never by an application: TLS ends here, and what it
says was meant for another end of it.
"""

from __future__ import annotations

from typing import Final

from tport.engine.net.exchange import Headers

_NAME: Final = b"strict-transport-security"
_OURS: Final = (_NAME, b"max-age=63072000")  # s, two years; Mozilla's guideline 6.0


def with_hsts(headers: Headers) -> Headers:
    """Return the headers of an answer under a certificate that every browser trusts."""
    return [*without_hsts(headers), _OURS]


def without_hsts(headers: Headers) -> Headers:
    """Return the headers of an answer under any other certificate."""
    return [header for header in headers if header[0].lower() != _NAME]
