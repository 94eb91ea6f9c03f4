"""Who may administer in the browser: the last of them should not go without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tport.engine.access.rules import check_rule
from tport.engine.errors import AccessDenied
from tport.engine.types.role import Role

NOBODY_LEFT: Final = (
    "nobody is left who may administer in the browser;"
    " on the server: tport users add --roles=editor NAME"
)


def may_administer(
    roles: Mapping[str, Role], names: Sequence[str], *, signs_in: bool, locked: bool
) -> bool:
    """Tell whether a person with the roles `names` may change people, and with them all else.

    Args:
        signs_in: they have a password, or a link with which to choose one, where passwords count;
            or a connector that is there vouches for them.
        locked: a lock keeps them out. Wrong passwords don't count: that passes by itself.
    """
    if locked or not signs_in:
        return False
    try:
        check_rule(roles, names, "user", "update")
    except AccessDenied:
        return False
    return True
