"""Settings as they are in force, and the part of them that is changed while auth runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from tport.engine.api.callers import ADMIN, Rule
from tport.engine.types.preference import Preference
from tport.engine.types.setting import Setting


class PreferenceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How people sign in.

    Attributes:
        in_force: complete.
        revision: of what is stored; 0: nothing is.
        in_file: fields that the configuration file sets, and where (`tport.yaml:12`): there it
            is to be changed, and nowhere else.
    """

    in_force: Preference
    revision: int
    in_file: Mapping[str, str]


class Consequence(msgspec.Struct, frozen=True, kw_only=True):
    """What everybody's next sign-in would ask for. Names, sorted; each user is in one of them.

    Attributes:
        shows: those who show a second factor that they have.
        sets_up: those who must set one up before they are in.
        password: those whose password alone signs them in.
        vouched: those of whom their provider's word is enough.
        kept_out: those whom nothing signs in: passwords don't count, their connector is gone, or a second
            factor is asked for beside their provider's word and this cluster takes none.
    """

    shows: tuple[str, ...]
    sets_up: tuple[str, ...]
    password: tuple[str, ...]
    vouched: tuple[str, ...] = ()
    kept_out: tuple[str, ...] = ()


class PreferenceAPI(Protocol):
    async def list_settings(self) -> tuple[Setting, ...]:
        """Return the settings of auth's process as they are in force, in the file's order."""
        ...

    async def get_preference(self) -> PreferenceInfo: ...

    async def preview_preference(self, *, preference: Preference) -> Consequence:
        """Say what this preference would ask of whom, if it were stored.

        Raises:
            InvalidRequest: it can't be meant, or the configuration file sets it otherwise.
        """
        ...

    async def set_preference(self, *, preference: Preference, revision: int) -> None:
        """Store how people sign in; it counts at once. What is None is as the file says.

        Args:
            revision: as its editor saw it (`PreferenceInfo`).

        Raises:
            CompareFailed: it was changed since; the message says by whom.
            InvalidRequest: it can't be meant, or the configuration file sets it otherwise.
        """
        ...

    async def reset_preference(self) -> None:
        """Go back to what the configuration file says.

        Raises:
            NotFound: nothing is stored.
        """
        ...


_KIND: Final = "cluster_auth_preference"

CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "list_settings": ADMIN,
    "get_preference": ADMIN,
    "preview_preference": ADMIN,
    "set_preference": ADMIN,
    "reset_preference": ADMIN,
}

RULES: Final[Mapping[str, Rule]] = {
    "list_settings": (_KIND, "read"),
    "get_preference": (_KIND, "read"),
    "preview_preference": (_KIND, "update"),
    "set_preference": (_KIND, "update"),
    "reset_preference": (_KIND, "update"),
}

# Who weakens how everybody is proven proves first who they are.
FRESH: Final = frozenset({"set_preference", "reset_preference"})
