"""The collector of reference cycles, told that a server has started.

What a request makes goes when the request does, without the collector; but while requests run it is
there, and by Python's own threshold, 700 objects more than were before, some 60 requests at a time
have it look through all of them again and again: 8 % of an agent's time.
"""

from __future__ import annotations

import gc
from typing import Final

# Objects of containers' kinds more than were before, until the youngest are looked through. What
# cycles may hold meanwhile is some 2 MiB.
THRESHOLD: Final = 20_000


def settle() -> None:
    """Look at what is here now no more, for it stays, and less often at what comes and goes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)
