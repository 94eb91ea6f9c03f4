"""What a signed-in person asks about themselves, as `Calls` answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tport.engine.access.rules import check_rule
from tport.engine.api.protocol import RULES
from tport.engine.auth.calls.caller import Caller, call
from tport.engine.errors import AccessDenied
from tport.engine.types.role import Role


class HomeCalls(Caller):
    @call
    async def own_rights(self) -> tuple[tuple[str, str], ...]:
        roles, names = await self._own_roles()
        allowed = set()
        for rule in RULES.values():
            if rule is None:
                continue
            try:
                check_rule(roles, names, *rule)
            except AccessDenied:
                continue
            allowed.add(rule)
        return tuple(sorted(allowed))

    @call
    async def check_right(self, *, kind: str, verb: str) -> None:
        roles, names = await self._own_roles()
        try:
            check_rule(roles, names, kind, verb)
        except AccessDenied as denied:
            await self.denied(
                f"{verb} {kind}", "user", f"{self.name} may not call it: {denied.reason}"
            )

    async def _own_roles(self) -> tuple[Mapping[str, Role], Sequence[str]]:
        return await self.service.roles.now(), self.person.roles
