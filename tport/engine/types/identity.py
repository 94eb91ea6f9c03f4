"""Who is at the other end of a mutual TLS connection: what a certificate says."""

from __future__ import annotations

from typing import Literal

import msgspec

IdentityKind = Literal["agent", "proxy", "auth", "admin", "user"]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What one certificate says of its holder.

    Attributes:
        kind: the role; one certificate, one role.
        name: the host's id (a UUID), or the user's name.
        cluster: the cluster that issued it; of no meaning in any other.
        apps: the only application names this agent may offer; None: any.
        uri: the only address at which it may offer them; "": any.
        hostname: what the machine calls itself, for people to read; proves nothing.
        generation: which certificate of this host it is, counted from 1; 0: not counted.
    """

    kind: IdentityKind
    name: str
    cluster: str
    apps: tuple[str, ...] | None = None
    hostname: str = ""
    uri: str = ""
    generation: int = 0
