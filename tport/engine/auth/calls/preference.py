"""What is asked about settings and how people sign in, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.preference import Consequence, PreferenceInfo
from tport.engine.auth.calls.caller import Caller, call
from tport.engine.types.preference import Preference
from tport.engine.types.setting import Setting


class PreferenceCalls(Caller):
    @call
    async def list_settings(self) -> tuple[Setting, ...]:
        return await self.service.preference.settings()

    @call
    async def get_preference(self) -> PreferenceInfo:
        return await self.service.preference.info()

    @call
    async def preview_preference(self, *, preference: Preference) -> Consequence:
        return await self.service.preference.preview(preference)

    @call
    async def set_preference(self, *, preference: Preference, revision: int) -> None:
        await self.service.preference.set(preference, revision, self.name)

    @call
    async def reset_preference(self) -> None:
        await self.service.preference.reset(self.name)
