"""Changing how people sign in: nothing against the file, nothing unseen, and what it asks of whom."""

from __future__ import annotations

import logging
from typing import Final

from msgspec.structs import replace

from tport.engine.api.preference import Consequence, PreferenceInfo
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.conflicts import check_revision
from tport.engine.auth.preference import FIELDS, RECORD, InForce, in_force, set_in_file
from tport.engine.auth.stores import Stored
from tport.engine.config.in_force import duration
from tport.engine.errors import AlreadyExists, CompareFailed, InvalidRequest, NotFound
from tport.engine.types.connector import origin_of
from tport.engine.types.factor import Factors
from tport.engine.types.preference import Preference, check_preference
from tport.engine.types.resource import PREFERENCE
from tport.engine.types.setting import Origin, Setting
from tport.engine.types.user import User

logger = logging.getLogger(__name__)

_EVENT: Final = "auth_preference.update"
_BY_RESOURCE: Final = Origin("resource", "cluster_auth_preference")


class PreferenceEditing:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = cluster.stores.preference
        self._in_file = set_in_file(cluster.settings.shown)

    # --- Reading -----------------------------------------------------------------------------------

    async def read(self) -> Stored[Preference] | None:
        """Return what is stored, None: nothing."""
        try:
            return await self._store.read(RECORD)
        except NotFound:
            return None

    async def info(self) -> PreferenceInfo:
        read = await self.read()
        return PreferenceInfo(
            in_force=self._with(read.value if read else None).preference,
            revision=read.revision if read else 0,
            in_file=self._in_file,
        )

    async def settings(self) -> tuple[Setting, ...]:
        read = await self.read()
        stored = self._left_open(read.value) if read else Preference()
        now = _texts(self._with(stored))
        of_field = {path: field for field, path in FIELDS.items()}
        return tuple(
            replace(each, value=now[field], origin=_BY_RESOURCE)
            if (field := of_field.get(each.path)) and getattr(stored, field) is not None
            else each
            for each in self._cluster.settings.shown
        )

    async def preview(self, preference: Preference) -> Consequence:
        now = self._with(await self.taken(preference))
        policy = now.second_factor
        stores = self._cluster.stores
        shows: list[str] = []
        sets_up: list[str] = []
        password: list[str] = []
        vouched: list[str] = []
        kept_out: list[str] = []
        asks_ours = {
            origin_of(each): each.cluster_second_factor for each in await stores.connectors.all()
        }
        for user in sorted(await stores.users.all(), key=lambda user: user.name):
            has = _of(user, await stores.factors.find(user.name))
            if not (now.local_auth if user.is_local else user.origin in asks_ours):
                kept_out.append(user.name)
            elif not user.is_local and not asks_ours[user.origin]:
                vouched.append(user.name)
            elif not user.is_local and not policy.kinds:
                kept_out.append(user.name)
            elif (
                not user.is_local
            ):  # beside a provider's word one is asked for, whatever passwords need
                (shows if has.devices else sets_up).append(user.name)
            elif policy.required and not has.of_kinds(policy.kinds):
                sets_up.append(user.name)
            elif policy.kinds and has.devices:
                shows.append(user.name)
            else:
                password.append(user.name)
        return Consequence(
            shows=tuple(shows),
            sets_up=tuple(sets_up),
            password=tuple(password),
            vouched=tuple(vouched),
            kept_out=tuple(kept_out),
        )

    async def tell_overruled(self) -> None:
        """Log what was stored and counts no more, because the configuration file sets it by now."""
        if (read := await self.read()) is None:
            return
        now = _texts(self._with(read.value))
        wanted = _texts(in_force(read.value, self._cluster.settings.sign_in, {}))
        for field, place in self._in_file.items():
            if wanted[field] != now[field]:
                logger.warning(
                    "%s is %s, as %s says; %s, as cluster_auth_preference has it, does not count",
                    field,
                    now[field],
                    place,
                    wanted[field],
                )

    # --- Writing -----------------------------------------------------------------------------------

    async def set(self, preference: Preference, revision: int, by: str) -> None:
        """See `PreferenceAPI.set_preference`."""
        taken = await self.taken(preference)
        read = await self.read()
        await check_revision(
            self._cluster,
            wanted=revision or -1,  # 0: its editor saw that nothing was stored
            found=read.revision if read else -1,
            what="setting",
            name=PREFERENCE,
            changes={_EVENT: ("name", "user")},
        )
        await self.write(read, taken, by)

    async def reset(self, by: str) -> None:
        """See `PreferenceAPI.reset_preference`."""
        read = await self.read()
        if read is None:
            raise NotFound(
                "how people sign in is as the configuration file says already",
                hint="look with: tport settings ls",
            )
        await self._record(read.value, None, by)
        await self._cluster.stores.batch([self._store.deleting(RECORD, read)])

    async def taken(self, preference: Preference) -> Preference:
        """Return what is stored of a preference: what the file sets, and says too, is left out.

        Raises:
            InvalidRequest: it can't be meant, or the file says otherwise.
        """
        check_preference(preference)
        if preference.local_auth is False and not await self._cluster.stores.connectors.range():
            raise InvalidRequest(
                "local_auth: without it nobody could sign in: there is no identity provider",
                hint="try one with tport sso test FILE, then make it: tport create FILE",
            )
        wanted = _texts(in_force(preference, self._cluster.settings.sign_in, {}))
        fixed = _texts(self._cluster.settings.sign_in)
        for field, place in self._in_file.items():
            if wanted[field] != fixed[field]:
                raise InvalidRequest(
                    f"{field} is set to {fixed[field]} in {place}, which counts",
                    hint="change it there and restart auth; or take it out there, and it can be"
                    " changed here",
                )
        return self._left_open(preference)

    async def write(self, read: Stored[Preference] | None, taken: Preference, by: str) -> None:
        """Replace exactly what was read (None: nothing), after writing that down.

        Raises:
            CompareFailed: somebody else was quicker.
        """
        await self._record(read.value if read else None, taken, by)
        try:
            if read is None:
                await self._store.create(RECORD, taken)
            else:
                await self._store.swap(RECORD, read, taken)
        except (AlreadyExists, CompareFailed):
            raise CompareFailed(
                "cluster_auth_preference was changed meanwhile",
                hint="read it again, and make your change anew",
            ) from None

    # --- Parts -------------------------------------------------------------------------------------

    def _with(self, stored: Preference | None) -> InForce:
        return in_force(stored, self._cluster.settings.sign_in, self._in_file)

    def _left_open(self, preference: Preference) -> Preference:
        return replace(preference, **dict.fromkeys(self._in_file, None))

    async def _record(self, before: Preference | None, after: Preference | None, by: str) -> None:
        was, becomes = _texts(self._with(before)), _texts(self._with(after))
        await self._cluster.record(
            _EVENT,
            user=by,
            name=PREFERENCE,
            **becomes,
            changes=[f"{f}: {was[f]} -> {becomes[f]}" for f in FIELDS if was[f] != becomes[f]],
        )


def _texts(now: InForce) -> dict[str, str]:
    """Return each field as the file would say it."""
    return {
        "second_factor": now.second_factor.word,
        "web_idle_timeout": duration(now.web_idle.total_seconds()),
        "local_auth": "yes" if now.local_auth else "no",
    }


def _of(user: User, factors: Factors | None) -> Factors:
    """Return what is this user's; a namesake's who was deleted isn't."""
    if factors is None or factors.user_id != user.id:
        return Factors(user_id=user.id)
    return factors
