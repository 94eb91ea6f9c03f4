from collections.abc import AsyncIterator

import pytest

from tests.engine.web.browser import Browser, open_browser
from tests.engine.web.office import Office, open_office
from tests.fakes import FakeAuth, WallClock


@pytest.fixture
def auth() -> FakeAuth:
    return FakeAuth(WallClock())


@pytest.fixture
async def browser(auth: FakeAuth) -> AsyncIterator[Browser]:
    async with open_browser(auth) as opened:
        yield opened


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with open_office() as opened:
        yield opened
