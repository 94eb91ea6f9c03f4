"""HSTS: whether a browser is told to come by HTTPS only, and to let nobody click a warning away.

That is said where browsers know the certificate's authority as it is: of files and of ACME. Never
with the own authority's: who has not added it yet, or has it no more, would be locked out. Never of
sub-domains, which may be somebody else's. And never by an application: TLS ends here, and what it
says was meant for another end of it.
"""

from __future__ import annotations

from typing import Final

from tport.engine.net.exchange import Seal

_NAME: Final = b"strict-transport-security"

# Of answers under a certificate that every browser trusts; and under any other one.
WITH_HSTS: Final = Seal(_NAME, b"max-age=63072000")  # s, two years; Mozilla's guideline 6.0
WITHOUT_HSTS: Final = Seal(_NAME)
