"""How people sign in, as far as that can be changed while auth runs: Teleport's cluster_auth_preference."""

from __future__ import annotations

from typing import Final

import msgspec

from tport.engine.errors import InvalidRequest
from tport.engine.types.factor import FactorPolicy

MIN_IDLE: Final = 600.0  # s; what is done at applications is noticed every few minutes
MAX_IDLE: Final = 365 * 86400.0  # s; no session lives as long


class Preference(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants. None: as the configuration file says, else the default.

    Attributes:
        second_factor: what is demanded beside a password.
        local_auth: whether passwords, passkeys and invite links sign in; else providers alone do.
        web_idle_timeout: seconds after which who does nothing is signed out; 0: never.
    """

    second_factor: FactorPolicy | None = None
    web_idle_timeout: float | None = None
    local_auth: bool | None = None


def check_preference(preference: Preference) -> Preference:
    """Return it when it can be meant.

    Raises:
        InvalidRequest: naming the field.
    """
    policy, idle = preference.second_factor, preference.web_idle_timeout
    if policy is not None and set(FactorPolicy.from_word(policy.word).kinds) != set(policy.kinds):
        raise InvalidRequest("second_factor: kinds that cannot be demanded together")
    if policy is not None and policy.required and not policy.kinds:
        raise InvalidRequest("second_factor: required, and there is no kind of it")
    if idle is not None and idle != 0 and not MIN_IDLE <= idle <= MAX_IDLE:
        raise InvalidRequest("web_idle_timeout: expected 10m to 8760h, or 0s for never")
    return preference
