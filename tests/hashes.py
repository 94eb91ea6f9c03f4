"""The hash of a password that test after test chooses: made once in a process, at its full cost of 60 ms.

What is stored is a hash as any other, and to sign in takes as long as ever: only choosing the same password anew is quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from tport.engine.access.passwords import hash_password
from tport.engine.auth.signin import hashing

_once = cache(hash_password)


@contextmanager
def hashes_remembered() -> Iterator[None]:
    """Within the block, one password has one hash, whoever chooses it."""
    vars(hashing)["hash_password"] = _once
    try:
        yield
    finally:
        vars(hashing)["hash_password"] = hash_password
