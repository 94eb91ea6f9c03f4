"""Launch states that only this cluster makes, and credentials asked for once and never too old."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from tests.engine.api.scripted import ScriptedAuth
from tests.fakes import WallClock
from tport.engine.api.answers import SignedSession
from tport.engine.errors import AccessDenied, ConnectionProblem, NotSignedIn, Unavailable
from tport.engine.proxy import app_session
from tport.engine.proxy.app_session import CookieNames, Credentials, StateSeal
from tport.engine.types.app import App, AppServer
from tport.engine.types.launch import LaunchRequest

KEY = bytes(32)


# --- States ---------------------------------------------------------------------------------------


def test_a_state_opens_to_what_was_sealed_at_every_proxy_of_the_cluster() -> None:
    state_id, sealed = StateSeal(KEY, WallClock()).make("grafana.proxy.test", b"/d?x=%20&y")

    assert StateSeal(KEY, WallClock()).open(sealed) == LaunchRequest(
        state_id=state_id, app_host="grafana.proxy.test", raw_path="/d?x=%20&y"
    )
    assert StateSeal(bytes(31) + b"1", WallClock()).open(sealed) is None


def test_no_two_attempts_share_a_state() -> None:
    seal = StateSeal(KEY, WallClock())
    assert len({part for _ in range(50) for part in seal.make("h", b"/")}) == 100


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_state_is_none(position: int, change: int) -> None:
    seal = StateSeal(KEY, WallClock())
    _, sealed = seal.make("grafana.proxy.test", b"/")
    position %= len(sealed)
    changed = sealed[:position] + chr(ord(sealed[position]) ^ change) + sealed[position + 1 :]
    opened = seal.open(changed)
    # The last character holds bits that belong to no byte.
    assert opened is None or position == len(sealed) - 1


def test_a_state_is_written_in_one_way() -> None:
    """Decoders take "/" for "_", and pass over what is no base64 at all."""
    seal = StateSeal(KEY, WallClock())
    sealed = next(s for _, s in iter(lambda: seal.make("h", b"/"), None) if "_" in s)

    assert seal.open(sealed) is not None
    assert seal.open(sealed.replace("_", "/")) is None
    assert seal.open(f"{sealed[:9]}*{sealed[9:]}") is None


@given(st.text(max_size=100))
def test_any_text_is_a_state_or_none(text: str) -> None:
    assert StateSeal(KEY, WallClock()).open(text) is None


@pytest.mark.parametrize(
    ("age", "expired"),
    [(0, False), (600, False), (601, True), (-60, False), (-61, True)],
)
def test_a_state_is_marked_when_it_is_too_old_or_of_the_future(age: int, expired: bool) -> None:
    clock = WallClock()
    seal = StateSeal(KEY, clock)
    _, sealed = seal.make("grafana.proxy.test", b"/")
    clock.now += timedelta(seconds=age)
    opened = seal.open(sealed)

    assert opened is not None
    assert opened.expired is expired


@pytest.mark.parametrize("target", [b"//evil.test/", b"/\\evil.test", b"*", b"/" + b"x" * 3000])
def test_a_path_that_leads_elsewhere_becomes_the_root(target: bytes) -> None:
    seal = StateSeal(KEY, WallClock())
    _, sealed = seal.make("grafana.proxy.test", target)
    opened = seal.open(sealed)

    assert opened is not None
    assert opened.raw_path == "/"


def test_a_sealed_state_fits_into_a_cookie() -> None:
    """Browsers keep 4096 bytes of name, value and attributes."""
    _, sealed = StateSeal(KEY, WallClock()).make("a" * 253, b"/" + b"x" * 2047)
    assert len(sealed) < 3800


def test_two_clusters_on_one_host_have_cookies_of_their_own() -> None:
    one, other = CookieNames("01234567"), CookieNames("89abcdef")
    assert {one.app, one.web}.isdisjoint({other.app, other.web})
    assert one.state("a") != one.state("b")


# --- Credentials ---------------------------------------------------------------------------------


class Many(ScriptedAuth):
    """Signs `jws-1`, `jws-2` … by the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = WallClock()
        self.sign = self._sign

    def _sign(self, _: str) -> SignedSession:
        return SignedSession(
            credential=f"jws-{len(self.signed)}",
            renew_at=self.clock() + timedelta(minutes=4),
            expires=self.clock() + timedelta(minutes=5),
        )


async def test_a_credential_is_asked_for_once_and_renewed_in_time() -> None:
    auth = Many()
    credentials = Credentials(auth.api, auth.clock)
    assert [await credentials.of("s1") for _ in range(3)] == ["jws-1"] * 3
    auth.clock.now += timedelta(minutes=4)
    assert await credentials.of("s1") == "jws-2"


async def test_requests_at_once_ask_once() -> None:
    auth = Many()
    credentials = Credentials(auth.api, auth.clock)
    got: list[str] = []

    async def one() -> None:
        got.append(await credentials.of("s1"))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)

    assert (got, auth.signed) == (["jws-1"] * 10, ["s1"])


async def test_when_who_asks_leaves_another_one_does() -> None:
    auth = Many()
    credentials = Credentials(auth.api, auth.clock)
    got: list[str] = []
    auth.before_answer = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as first:
            first.start_soon(credentials.of, "s1")
            await wait_all_tasks_blocked()

            async def other() -> None:
                got.append(await credentials.of("s1"))

            nursery.start_soon(other)
            await wait_all_tasks_blocked()
            auth.before_answer = trio.lowlevel.checkpoint
            first.cancel_scope.cancel()

    assert got == ["jws-2"]


async def test_when_auth_is_away_all_who_wait_are_told_by_one_try() -> None:
    """Else a hundred requests would wait for a hundred deadlines, one after the other."""
    auth = Many()
    auth.failure = ConnectionProblem("down")
    credentials = Credentials(auth.api, auth.clock)
    told: list[Unavailable] = []

    async def one() -> None:
        try:
            await credentials.of("s1")
        except Unavailable as problem:
            told.append(problem)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)

    assert (len(told), auth.signed) == (10, ["s1"])


async def test_when_auth_is_away_the_old_one_serves_to_its_own_end() -> None:
    auth = Many()
    credentials = Credentials(auth.api, auth.clock)
    await credentials.of("s1")
    auth.failure = Unavailable("down")
    auth.clock.now += timedelta(minutes=4, seconds=59)
    assert await credentials.of("s1") == "jws-1"
    auth.clock.now += timedelta(seconds=1)
    with pytest.raises(Unavailable):
        await credentials.of("s1")


@pytest.mark.parametrize("refusal", [NotSignedIn("over"), AccessDenied("no role")])
async def test_what_auth_refuses_is_refused(refusal: AccessDenied) -> None:
    auth = Many()
    credentials = Credentials(auth.api, auth.clock)
    await credentials.of("s1")
    auth.clock.now += timedelta(minutes=4)
    auth.failure = refusal
    with pytest.raises(type(refusal)):
        await credentials.of("s1")


async def test_one_forgotten_while_it_was_made_is_not_kept() -> None:
    auth = Many()
    credentials = Credentials(auth.api, auth.clock)

    async def forget() -> None:
        credentials.forget("s1")

    auth.before_answer = forget
    await credentials.of("s1")
    assert len(credentials) == 0
    auth.before_answer = trio.lowlevel.checkpoint
    assert await credentials.of("s1") == "jws-2"


async def test_those_that_ended_are_not_kept_and_the_rest_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app_session, "MAX_CREDENTIALS", 3)
    auth = Many()
    credentials = Credentials(auth.api, auth.clock)
    for number in range(5):
        await credentials.of(f"s{number}")
    assert len(credentials) == 3
    auth.clock.now += timedelta(minutes=5)
    await credentials.of("s9")
    assert len(credentials) == 1


async def test_what_applications_said_is_forgotten_again_and_credentials_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An agent may offer others each second; of one forgotten nobody can tell whether it changed."""
    monkeypatch.setattr(app_session, "MAX_SAID", 20)
    auth = Many()
    credentials = Credentials(auth.api, auth.clock)
    await credentials.of("s1")
    for number in range(100):
        app = App(name=f"a{number}", uri="http://localhost:1")
        credentials.redefined((AppServer(app=app, labels={}, host_id="h"),))

    assert len(credentials._said) <= 21
    assert len(credentials) == 0


async def test_one_that_has_ended_when_it_comes_is_not_kept() -> None:
    """Auth's clock may be behind: the next request asks again, and is not held up by an old one."""
    auth = Many()
    ended = auth.clock()
    auth.sign = lambda _: SignedSession(credential="old", renew_at=ended, expires=ended)
    credentials = Credentials(auth.api, auth.clock)
    await credentials.of("s1")
    assert len(credentials) == 0
    auth.sign = auth._sign
    assert await credentials.of("s1") == "jws-2"
