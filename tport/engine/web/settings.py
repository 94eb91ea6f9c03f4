"""The pages about settings: all that are in force, with their origins, and changing how people sign in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.preference import Consequence, PreferenceInfo
from tport.engine.config.in_force import duration
from tport.engine.config.words import parse_idle
from tport.engine.errors import CompareFailed, InvalidRequest
from tport.engine.types.factor import FactorPolicy, SecondFactor
from tport.engine.types.preference import Preference
from tport.engine.types.setting import OriginKind, Setting
from tport.engine.web.users import read_number
from tport.engine.web.visit import SignedInRoutes, Visit, sentence

LIST: Final = "/web/settings"
CHANGE: Final = f"{LIST}/sign-in"
RESET: Final = f"{CHANGE}/reset"

READ: Final = ("cluster_auth_preference", "read")
UPDATE: Final = ("cluster_auth_preference", "update")

PREVIEW: Final = "preview"  # what the button says that doesn't save
NAMED: Final = 50  # users that a page names

# In the file's order, and whose each section is.
SECTIONS: Final[Mapping[str, str]] = {
    "tport": "of the process in which auth runs",
    "auth_service": "of the auth service",
    "proxy_service": "of this proxy",
}
ORIGINS: Final[Mapping[OriginKind, str]] = {
    "default": "the default",
    "file": "from",
    "flag": "by the flag",
    "environment": "by",
    "command": "decided by",
    "resource": "changed while auth runs:",
}
CHOICES: Final[Mapping[SecondFactor, tuple[str, str]]] = {
    "on": ("Required", "A code of an authenticator app, or a passkey."),
    "webauthn": ("Required: a passkey", "What no false page can ask for. Codes no longer count."),
    "otp": ("Required: a code", "Of an authenticator app. Passkeys no longer count."),
    "optional": ("Optional", "Who has set up a second factor shows it; others need a password."),
    "off": ("Off", "A password alone signs everybody in, also who has a second factor."),
}


class Row(NamedTuple):
    """A setting as the list shows it. `meaning`: text, and whether it is code, piece by piece."""

    name: str
    value: str
    origin: str
    where: str
    is_default: bool
    meaning: Sequence[tuple[str, bool]]


class Section(NamedTuple):
    name: str
    whose: str
    rows: Sequence[Row]


class Choice(NamedTuple):
    word: str
    title: str
    hint: str
    ticked: bool


class SettingsPages:
    def __init__(self, own: Sequence[Setting]) -> None:
        """`own`: what the proxy of these pages works with; of others' nobody here knows."""
        self._own = tuple(each for each in own if each.section == "proxy_service")

    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.get(LIST, self.list, READ),
            signed_in.form(CHANGE, self.edit, self.submit, UPDATE),
            signed_in.form(RESET, self.ask_reset, self.reset, UPDATE),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/settings"""
        info = await visit.auth.get_preference()
        auths = await visit.auth.list_settings()
        found = [*(each for each in auths if each.section != "proxy_service"), *self._own]
        return await visit.page(
            "settings.html",
            groups=[
                Section(name, whose, [_row(each) for each in found if each.section == name])
                for name, whose in SECTIONS.items()
            ],
            **_now(info),
        )

    # How people sign in

    async def edit(self, visit: Visit) -> Response:
        """GET /web/settings/sign-in"""
        return await self._form(visit, None)

    async def submit(self, visit: Visit) -> Response:
        """POST /web/settings/sign-in: saved, or what it would ask of whom."""
        info = await visit.auth.get_preference()
        wanted = _from_form(visit.form, info)
        if visit.form.get("do") == PREVIEW:
            return await self._form(visit, await visit.auth.preview_preference(preference=wanted))
        revision = read_number(visit.form.get("revision", ""))
        await visit.auth.set_preference(preference=wanted, revision=revision)
        return visit.done(LIST, await _done(visit))

    async def ask_reset(self, visit: Visit) -> Response:
        """GET /web/settings/sign-in/reset: asks first."""
        return await visit.page("settings_reset.html", list_url=LIST, action=RESET)

    async def reset(self, visit: Visit) -> Response:
        """POST /web/settings/sign-in/reset"""
        await visit.auth.reset_preference()
        return visit.done(LIST, await _done(visit))

    async def _form(self, visit: Visit, preview: Consequence | None) -> Response:
        info = await visit.auth.get_preference()
        now = _now(info)
        is_behind = isinstance(visit.problem, CompareFailed)
        word = visit.form.get("second_factor") or now["word"]
        return await visit.page(
            "settings_sign_in.html",
            action=CHANGE,
            list_url=LIST,
            revision=info.revision,
            in_file=info.in_file,
            choices=[
                Choice(each, title, hint, each == word) for each, (title, hint) in CHOICES.items()
            ],
            idle=visit.form.get("web_idle_timeout", now["idle"]),
            local_auth=visit.form.get("local_auth", now["local_auth"]),
            preview=preview,
            named=NAMED,
            behind=now if is_behind else None,
        )


def _now(info: PreferenceInfo) -> dict[str, object]:
    """Return how people sign in, in words of a page."""
    policy, idle = info.in_force.second_factor, info.in_force.web_idle_timeout
    word: SecondFactor = policy.word if policy else "off"
    return {
        "word": word,
        "factor": CHOICES[word][0],
        "hint": CHOICES[word][1],
        "idle": duration(idle or 0),
        "local_auth": "no" if info.in_force.local_auth is False else "yes",
        "change_url": CHANGE,
        "reset_url": RESET if info.revision else "",
    }


async def _done(visit: Visit) -> str:
    """Say what counts now, and how many will notice it."""
    info = await visit.auth.get_preference()
    found = await visit.auth.preview_preference(preference=info.in_force)
    told = [f"How people sign in was changed. Second factor: {_now(info)['factor']}."]
    if count := len(found.sets_up):
        told.append(
            f"{count} {'user sets' if count == 1 else 'users set'} one up at the next sign-in."
        )
    if count := len(found.kept_out):
        told.append(f"{count} {'user' if count == 1 else 'users'} can't sign in any more.")
    return " ".join(told)


def _from_form(form: Mapping[str, str], info: PreferenceInfo) -> Preference:
    """Read the form; what the file sets isn't asked for.

    Raises:
        InvalidRequest: naming the field.
    """
    policy, idle = None, None
    if "second_factor" not in info.in_file:
        word = next((each for each in CHOICES if each == form.get("second_factor")), None)
        if word is None:
            raise InvalidRequest("choose what is needed beside a password")
        policy = FactorPolicy.from_word(word)
    if "web_idle_timeout" not in info.in_file:
        try:
            idle = parse_idle(form.get("web_idle_timeout", "").strip())
        except InvalidRequest as problem:
            raise InvalidRequest(f"signed out after: {problem}") from None
    local = None
    if "local_auth" not in info.in_file:
        local = form.get("local_auth") != "no"
    return Preference(second_factor=policy, web_idle_timeout=idle, local_auth=local)


def _row(setting: Setting) -> Row:
    pieces = sentence(setting.meaning).split("`")
    return Row(
        name=setting.name,
        value=setting.value,
        origin=ORIGINS[setting.origin.kind],
        where=setting.origin.where,
        is_default=setting.origin.kind == "default",
        meaning=[(piece, bool(number % 2)) for number, piece in enumerate(pieces) if piece],
    )
