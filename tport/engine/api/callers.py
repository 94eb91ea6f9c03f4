"""Who calls auth: the words of the tables that say who may make which call."""

from __future__ import annotations

from typing import Final

MACHINES: Final = frozenset({"agent", "proxy", "admin"})
PROXY: Final = frozenset({"proxy"})
ADMIN: Final = frozenset({"admin"})

# What a role's rules must allow a person: kind and verb. None: nothing, it is about themselves.
Rule = tuple[str, str] | None
