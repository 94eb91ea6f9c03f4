"""What an agent keeps on disk: its key and certificate, and the authorities it trusts.

One file, replaced whole, that only its owner can read: a key without its certificate, or the
authorities of another cluster beside it, can't come about.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from tport.engine.api.answers import Authorities, Joined
from tport.engine.errors import ConfigError
from tport.engine.files import write_whole
from tport.engine.pki.keys import KeyPair, load_certificate

FILE: Final = "agent.json"


class AgentState(msgspec.Struct, frozen=True, kw_only=True):
    """Who this agent is.

    Attributes:
        key: PEM, of the certificate (PEM).
        proxy: host:port at which it joined; where it dials when nobody says otherwise.
        next_key: PEM, for which the next certificate will be, "" before that is asked for. Written
            down first: when the answer gets lost, the same is asked again, and auth doesn't
            take us for a copy of who got it.
    """

    host_id: str
    key: str
    certificate: str
    authorities: Authorities
    proxy: str
    renew_at: datetime
    expires: datetime
    next_key: str = ""

    def __repr__(self) -> str:
        return f"AgentState({self.host_id})"

    def is_valid(self, now: datetime) -> bool:
        """Tell whether the certificate counts: made while auth's clock was ahead, it does not yet."""
        return load_certificate(self.certificate).not_valid_before_utc <= now < self.expires

    def is_due(self, now: datetime) -> bool:
        """Tell whether it is time for the next certificate."""
        return now >= self.renew_at or not self.is_valid(now)

    @property
    def pair(self) -> KeyPair:
        return KeyPair(key=self.key, chain=self.certificate)


def joined_state(joined: Joined, key: str, proxy: str) -> AgentState:
    return AgentState(
        host_id=joined.host_id,
        key=key,
        certificate=joined.certificate,
        authorities=joined.authorities,
        proxy=proxy,
        renew_at=joined.renew_at,
        expires=joined.expires,
    )


def load_state(folder: Path) -> AgentState | None:
    """Read the state; None: this agent has never joined. Blocks.

    Raises:
        ConfigError: there is a file that can't be read, or without an authority to verify
            the proxy by.
    """
    path = folder / FILE
    try:
        state = msgspec.json.decode(path.read_bytes(), type=AgentState)
        for authority in state.authorities.host:
            load_certificate(authority)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, ConfigError) as problem:
        raise _unusable(path, f"can't be read: {problem}") from None
    if not state.authorities.host:
        raise _unusable(path, "holds no authority to verify the proxy by")
    return state


def _unusable(path: Path, problem: str) -> ConfigError:
    return ConfigError(problem, where=path, hint="delete it, and join again with a new token")


def save_state(folder: Path, state: AgentState) -> None:
    """Replace the state, whole or not at all, and for good: an older one would be taken for a copy. Blocks.

    Raises:
        ConfigError: it can't be written.
    """
    path = folder / FILE
    try:
        write_whole(path, msgspec.json.encode(state))
    except OSError as problem:
        raise ConfigError(f"can't be written: {problem.strerror}", where=path) from None
