"""What a provider says, and in which of its answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.auth.sso.visits import ANN, GOOGLE, Visit, session_of, sso_world
from tport.engine.api.sso import SsoRefused


async def test_a_provider_without_user_info_is_believed_by_its_token_alone() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        del provider.discovery["userinfo_endpoint"]
        provider.user_info = {"department": "Labs"}
        session_of(await Visit(world).come(provider, **ANN))
        [info] = await world.admin.list_users()
        assert info.user.name == "ann@x.test"
        assert "department" not in info.user.traits
        assert "/userinfo" not in provider.asked


@pytest.mark.parametrize(("verified", "is_in"), [(True, True), (False, False), (None, False)])
async def test_an_address_of_user_info_counts_as_user_info_vouches_for_it(
    verified: bool | None, is_in: bool
) -> None:
    """And not as the token vouches for one that it doesn't name."""
    async with sso_world(GOOGLE) as (world, provider, _):
        provider.claims = {"email": None, "email_verified": None}  # of the token
        person: dict[str, Any] = {k: v for k, v in ANN.items() if k != "email_verified"}
        provider.user_info = {} if verified is None else {"email_verified": verified}
        done = await Visit(world).come(provider, **person)
        assert isinstance(done, SsoRefused) is not is_in
