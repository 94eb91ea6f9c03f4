"""The page about oneself: password, devices, recovery codes. A section of it is one card."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.account import AccountInfo, DeviceInfo
from tport.engine.api.factors import NextStep
from tport.engine.errors import AccessDenied, AttemptOver, InvalidRequest, NotFound
from tport.engine.web.errors import Since
from tport.engine.web.respond import redirect
from tport.engine.web.second_step import grouped, proof_of, qr_code
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit

ACCOUNT: Final = "/web/account"
PASSWORD: Final = f"{ACCOUNT}/password"
ADD_DEVICE: Final = f"{ACCOUNT}/devices/add"
CODES: Final = f"{ACCOUNT}/recovery-codes"
KINDS: Final = {"totp": "Authenticator app", "webauthn": "Passkey"}


class DeviceRow(NamedTuple):
    name: str
    kind: str
    added: Since
    used: Since | None
    url: str


class OwnAccountPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        device = f"{ACCOUNT}/device/{{id}}"
        return [
            signed_in.get(ACCOUNT, self.show),
            signed_in.form(PASSWORD, self.password, self.submit_password),
            signed_in.form(ADD_DEVICE, self.add, self.submit_add),
            signed_in.form(device, self.device, self.rename),
            signed_in.form(f"{device}/remove", self.device, self.remove),
            signed_in.form(CODES, self.codes, self.new_codes),
        ]

    async def show(self, visit: Visit) -> Response:
        """GET /web/account"""
        account = await visit.auth.own_account()
        return await visit.page(
            "account.html",
            devices=[_row(device, visit) for device in account.devices],
            origin=account.origin,
            recovery_left=account.recovery_left,
            takes_devices=bool(account.policy.kinds),
            is_required=account.policy.required,
            password_changed=account.password_changed
            and clock_time(account.password_changed, visit.now),
            password_url=PASSWORD,
            add_url=ADD_DEVICE,
            codes_url=CODES,
        )

    # Password

    async def password(self, visit: Visit) -> Response:
        """GET /web/account/password"""
        await _fresh(visit)
        account = await visit.auth.own_account()
        return await visit.page(
            "account_password.html",
            action=PASSWORD,
            account_url=ACCOUNT,
            password_min=account.password_min,
        )

    async def submit_password(self, visit: Visit) -> Response:
        """POST /web/account/password"""
        form = visit.form
        if not form.get("current"):
            raise InvalidRequest("enter the password that you have now")
        if not form.get("password"):
            raise InvalidRequest("choose a new password")
        if form["password"] != form.get("confirm"):
            raise InvalidRequest("the two new passwords differ")
        try:
            await visit.auth.change_password(
                current=form["current"], new=form["password"], known=visit.known
            )
        except AccessDenied as wrong:
            if type(wrong) is not AccessDenied:
                raise
            raise InvalidRequest("that is not the password that you have now") from None
        return visit.done(
            ACCOUNT,
            "Your password is changed. Everywhere else you are signed out now, and your device"
            " tokens work no more.",
        )

    # Devices

    async def add(self, visit: Visit) -> Response:
        """GET /web/account/devices/add"""
        step = await visit.auth.begin_device()
        return await visit.page("account_add.html", **_setting_up(step), account_url=ACCOUNT)

    async def submit_add(self, visit: Visit) -> Response:
        """POST /web/account/devices/add"""
        proof = proof_of(visit.form)
        if proof is None:
            raise InvalidRequest("enter the code that the app shows")
        try:
            codes = await visit.auth.add_device(
                attempt=visit.form.get("attempt", ""),
                proof=proof,
                name=visit.form.get("name", ""),
            )
        except AttemptOver:
            return redirect(ADD_DEVICE, 303)
        if codes:
            return await self._shown(visit, codes)
        return visit.done(ACCOUNT, "The device is added. From now on it signs you in.")

    async def device(self, visit: Visit) -> Response:
        """GET /web/account/device/{id}: to rename it or to remove it."""
        await _fresh(visit)
        device = _found(await visit.auth.own_account(), visit.part("id"))
        return await visit.page(
            "account_device.html", device=_row(device, visit), account_url=ACCOUNT
        )

    async def rename(self, visit: Visit) -> Response:
        """POST /web/account/device/{id}"""
        await visit.auth.rename_device(id=visit.part("id"), name=visit.form.get("name", ""))
        return visit.done(ACCOUNT, "The device has its new name.")

    async def remove(self, visit: Visit) -> Response:
        """POST /web/account/device/{id}/remove"""
        await visit.auth.remove_device(id=visit.part("id"))
        return visit.done(ACCOUNT, "The device is removed. It signs nobody in any more.")

    # Recovery codes

    async def codes(self, visit: Visit) -> Response:
        """GET /web/account/recovery-codes: asks first."""
        await _fresh(visit)
        account = await visit.auth.own_account()
        return await visit.page(
            "account_codes.html",
            codes=(),
            left=account.recovery_left,
            action=CODES,
            account_url=ACCOUNT,
        )

    async def new_codes(self, visit: Visit) -> Response:
        """POST /web/account/recovery-codes"""
        return await self._shown(visit, await visit.auth.new_recovery_codes())

    async def _shown(self, visit: Visit, codes: tuple[str, ...]) -> Response:
        return await visit.page(
            "account_codes.html", codes=codes, left=0, action=CODES, account_url=ACCOUNT
        )


async def _fresh(visit: Visit) -> None:
    """Ask for a fresh proof before a form is filled in, not after; once it was, keep what is in it."""
    if visit.problem is None:
        await visit.auth.check_fresh_proof()


def _setting_up(step: NextStep) -> dict[str, object]:
    return {
        "step": step,
        "qr": qr_code(step.totp.uri) if step.totp else "",
        "secret": grouped(step.totp.secret) if step.totp else "",
        "action": ADD_DEVICE,
    }


def _found(account: AccountInfo, id_: str) -> DeviceInfo:
    for device in account.devices:
        if device.id == id_:
            return device
    raise NotFound("you have no such device")


def _row(device: DeviceInfo, visit: Visit) -> DeviceRow:
    return DeviceRow(
        name=device.name,
        kind=KINDS[device.kind],
        added=clock_time(device.added, visit.now),
        used=clock_time(device.used, visit.now) if device.used else None,
        url=f"{ACCOUNT}/device/{quote(device.id)}",
    )
