"""Put a mark into whatever secrets are made from at random; Python imports this when it starts.

The mark stands where Base64, Base32 and hex spell it the same each time, after bytes by which some
secrets are named in lists. What is left at random is enough for tests.
"""

import os
import sys
from collections.abc import Mapping
from typing import Final

MARK: Final = bytes.fromhex("09a9daaf239f4deb2db026a7")  # "CanaryOfTestsCan", in Base64

# How many random bytes are asked for → where the mark begins, and how much of it fits.
_PLACES: Final[Mapping[int, tuple[int, int]]] = {
    10: (5, 5),  # recovery codes
    16: (6, 9),  # join tokens, and ids that go with a session
    20: (10, 10),  # keys of authenticator apps
    32: (18, 12),  # cookies, codes, links, device tokens, what seals
    80: (18, 12),  # what resumes TLS sessions
}

# Of 10 and 16 random bytes only what the module `secrets` gives: the others are salts, and ids of people.
_ONLY_SECRETS: Final = 16

_plain = os.urandom


def _marked(size: int, /) -> bytes:
    data = _plain(size)
    if (place := _PLACES.get(size)) is None:
        return data
    if size <= _ONLY_SECRETS and sys._getframe(1).f_globals.get("__name__") != "random":
        return data
    at, length = place
    return data[:at] + MARK[:length] + data[at + length :]


def mark_randomness() -> None:
    """Do so in this process, from now on."""
    os.urandom = _marked
    if "random" in sys.modules:  # which `secrets` asks, and which took the function by its name
        vars(sys.modules["random"])["_urandom"] = _marked


if __name__ == "sitecustomize":
    mark_randomness()
