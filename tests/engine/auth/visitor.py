"""One browser that signs in, step by step, at an auth service in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import count

from tests.authenticator import Authenticator
from tests.engine.auth.world import PASSWORD, PROXY, World
from tport.engine.access.totp import PERIOD, parse_secret_text, time_step, totp_code
from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep, Proof

_numbers = count(1)

ORIGIN = f"https://{PROXY}:3080"


def authenticator() -> Authenticator:
    """Return an honest passkey for this cluster."""
    return Authenticator(ORIGIN, PROXY)


@dataclass
class Visitor:
    """A browser: what it remembers of its cookies, and its owner of the phone.

    Attributes:
        known: the cookie that says it has signed its owner in.
        secret: of the authenticator app, base32.
        codes: recovery codes that are left on the paper.
    """

    world: World
    name: str = "alice"
    remote: str = "192.0.2.1"
    known: str = ""
    secret: str = ""
    codes: list[str] = field(default_factory=list)
    cookie: str = field(default_factory=lambda: f"browser {next(_numbers)}")

    @property
    def browser(self) -> str:
        return hashlib.sha256(self.cookie.encode()).hexdigest()

    async def invited(self, *roles: str) -> SignedIn | NextStep:
        """Make the user; choose a password."""
        invite = await self.world.admin.create_user(
            name=self.name, roles=roles or ("access",), traits={}
        )
        return await self.accept(invite.url)

    async def accept(self, url: str) -> SignedIn | NextStep:
        return self._noted(
            await self.world.proxy.accept_invite(
                token=url.rpartition("/")[2],
                password=PASSWORD,
                remote=self.remote,
                user_agent="UA",
                browser=self.browser,
                known=self.known,
            )
        )

    async def password(self, password: str = PASSWORD) -> SignedIn | NextStep:
        return self._noted(
            await self.world.proxy.sign_in(
                username=self.name,
                password=password,
                remote=self.remote,
                user_agent="UA",
                browser=self.browser,
                known=self.known,
            )
        )

    async def prove(self, step: NextStep, kind: str, value: str) -> SignedIn | NextStep:
        return self._noted(
            await self.world.proxy.prove(
                browser=self.browser,
                attempt=step.attempt,
                proof=Proof(kind=kind, value=value),  # type: ignore[arg-type]  # liars say more
                remote=self.remote,
                user_agent="UA",
                known=self.known,
            )
        )

    async def enrol(self, step: NextStep, kind: str, value: str) -> SignedIn:
        signed = await self.world.proxy.enrol(
            browser=self.browser,
            attempt=step.attempt,
            proof=Proof(kind=kind, value=value),  # type: ignore[arg-type]  # liars say more
            name="",
            remote=self.remote,
            user_agent="UA",
            known=self.known,
        )
        self.codes = list(signed.recovery_codes)
        self._noted(signed)
        return signed

    async def with_app(self) -> SignedIn:
        """Make the user, with a password and an authenticator app. A step passes."""
        step = await self.invited()
        assert isinstance(step, NextStep)
        assert step.totp
        self.secret = step.totp.secret
        signed = await self.enrol(step, "totp", self.code())
        self.world.pass_time(seconds=PERIOD)
        return signed

    async def with_passkey(self, passkey: Authenticator) -> SignedIn:
        """Make the user, with a password and this passkey."""
        step = await self.invited()
        assert isinstance(step, NextStep)
        return await self.enrol(step, "webauthn", passkey.create(step.webauthn))

    async def asked(self) -> NextStep:
        """Give the right password; return what is asked next."""
        step = await self.password()
        assert isinstance(step, NextStep)
        return step

    async def sign_in(self) -> SignedIn:
        """Sign in with password and app."""
        signed = await self.prove(await self.asked(), "totp", self.code())
        assert isinstance(signed, SignedIn)
        return signed

    def code(self, ahead: int = 0) -> str:
        """Return what the app shows, or will show some steps later."""
        step = time_step(self.world.clock()) + ahead
        return totp_code(parse_secret_text(self.secret), step)

    def wrong_code(self) -> str:
        right = {self.code(ahead) for ahead in (-1, 0, 1)}
        return next(code for code in (f"{number:06}" for number in range(9)) if code not in right)

    def _noted(self, answer: SignedIn | NextStep) -> SignedIn | NextStep:
        if isinstance(answer, SignedIn):
            self.known = answer.known
        return answer
