"""How people sign in now: what the configuration file sets wins, then what was stored, then the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import msgspec

from tport.engine.access.passwords import MINIMUM, MINIMUM_WITH_SECOND_FACTOR
from tport.engine.config.in_force import LOCAL_AUTH, SECOND_FACTOR, WEB_IDLE_TIMEOUT
from tport.engine.types.factor import FactorPolicy
from tport.engine.types.preference import Preference
from tport.engine.types.setting import Setting

RECORD: Final = "auth_preference"  # the one record's key

# What can be changed, and the setting of the file that it is.
FIELDS: Final[Mapping[str, str]] = {
    "second_factor": SECOND_FACTOR,
    "web_idle_timeout": WEB_IDLE_TIMEOUT,
    "local_auth": LOCAL_AUTH,
}


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """What counts at this moment. `web_idle`: zero is never."""

    second_factor: FactorPolicy
    web_idle: timedelta
    local_auth: bool = True

    @property
    def password_min(self) -> int:
        """Characters of a password; more where it may be all that proves a person."""
        return MINIMUM_WITH_SECOND_FACTOR if self.second_factor.required else MINIMUM

    @property
    def preference(self) -> Preference:
        return Preference(
            second_factor=self.second_factor,
            web_idle_timeout=self.web_idle.total_seconds(),
            local_auth=self.local_auth,
        )


def set_in_file(settings: Sequence[Setting]) -> Mapping[str, str]:
    """Return the fields that the configuration file sets, and in which line of which file."""
    places = {each.path: each.origin for each in settings if each.origin.kind == "file"}
    return {field: str(places[path]) for field, path in FIELDS.items() if path in places}


def in_force(stored: Preference | None, start: InForce, in_file: Mapping[str, str]) -> InForce:
    """Put together what counts.

    Args:
        start: what auth was started with.
        in_file: `set_in_file`.
    """
    if stored is None:
        return start
    policy, idle, local = stored.second_factor, stored.web_idle_timeout, stored.local_auth
    return InForce(
        second_factor=start.second_factor
        if policy is None or "second_factor" in in_file
        else policy,
        web_idle=start.web_idle
        if idle is None or "web_idle_timeout" in in_file
        else timedelta(seconds=idle),
        local_auth=start.local_auth if local is None or "local_auth" in in_file else local,
    )
