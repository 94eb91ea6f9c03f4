"""The pages about people: list, invite, change, reset, remove."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.access.administrators import NOBODY_LEFT
from tport.engine.api.answers import NewInvite, UserInfo
from tport.engine.errors import CompareFailed, InvalidRequest, NotFound
from tport.engine.types.role import Role
from tport.engine.web.errors import Since
from tport.engine.web.locks import lift_url
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit

LIST: Final = "/web/users"
ADD: Final = f"{LIST}/add"
ROLE_FIELD: Final = "role:"  # and a role's name: a box that is ticked
MAX_COUNTED: Final = 10_000  # sessions
_USER: Final = "/web/user/{name}"
_MAX_SEARCH: Final = 200  # characters


class Person(NamedTuple):
    """A user as a page shows them."""

    name: str
    url: str
    roles: tuple[str, ...]
    traits: tuple[str, ...]
    origin: str
    state: str
    mood: str  # "good", "bad" or "": how the state is coloured
    until: Since | None
    is_self: bool
    lift_url: str  # "": no lock keeps them out
    lent: Mapping[str, Since]  # role → until when, of those given for a time


class UserPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.get(LIST, self.list, ("user", "list")),
            signed_in.form(ADD, self.add, self.submit_add, ("user", "create")),
            signed_in.form(_USER, self.edit, self.submit_edit, ("user", "update")),
            signed_in.form(f"{_USER}/reset", self.reset, self.submit_reset, ("user", "update")),
            signed_in.form(f"{_USER}/remove", self.remove, self.submit_remove, ("user", "delete")),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/users?q=<words>"""
        search = visit.request.query_params.get("q", "")[:_MAX_SEARCH]
        people = [_person(visit, info) for info in await visit.auth.list_users()]
        terms = search.lower().split()
        found = [person for person in people if _matches(person, terms)]
        return await visit.page(
            "users.html", people=found, all=len(people), q=search, list_url=LIST, add_url=ADD
        )

    # Adding

    async def add(self, visit: Visit) -> Response:
        """GET /web/users/add"""
        return await visit.page(
            "user_add.html",
            roles=await _roles(visit, ticked=visit.form and _ticked(visit.form)),
            list_url=LIST,
            add_url=ADD,
        )

    async def submit_add(self, visit: Visit) -> Response:
        """POST /web/users/add"""
        roles = _ticked(visit.form)
        if not visit.form.get("name", "").strip():
            raise InvalidRequest("a user needs a name", hint="often it is their mail address")
        if not roles:
            raise InvalidRequest("choose at least one role")
        made = await visit.auth.create_user(
            name=visit.form["name"].strip(),
            roles=roles,
            traits=traits_from(visit.form.get("traits", "")),
        )
        return await self._invited(visit, made, is_new=True)

    async def _invited(self, visit: Visit, made: NewInvite, *, is_new: bool) -> Response:
        """Show an invite link, this once: it is in no address, and nowhere stored."""
        return await visit.page(
            "user_invited.html",
            name=made.user,
            link=made.url,
            until=clock_time(made.expires, visit.now),
            is_new=is_new,
            list_url=LIST,
            edit_url=_url(made.user),
            add_url=ADD,
        )

    # Changing

    async def edit(self, visit: Visit) -> Response:
        """GET /web/user/{name}"""
        info = await _info(visit)
        person = _person(visit, info)
        return await visit.page(
            "user.html",
            person=person,
            roles=await _roles(
                visit,
                ticked=_ticked(visit.form) if visit.form else info.user.roles,
                lent={g.role: clock_time(g.until, visit.now) for g in info.user.grants},
            ),
            traits=visit.form.get("traits", "\n".join(person.traits)),
            revision=info.revision,
            created=info.user.created and clock_time(info.user.created, visit.now),
            created_by=info.user.created_by,
            nobody_left=NOBODY_LEFT if await _is_last(visit, info) else "",
            is_conflict=isinstance(visit.problem, CompareFailed),
            list_url=LIST,
        )

    async def submit_edit(self, visit: Visit) -> Response:
        """POST /web/user/{name}"""
        info = await _info(visit)
        name = info.user.name
        await visit.auth.update_user(
            name=name,
            roles=_ticked(visit.form),
            lent=tuple(grant.role for grant in info.user.grants),
            traits=traits_from(visit.form.get("traits", "")),
            revision=read_number(visit.form.get("revision", "")),
        )
        return visit.done(_url(name), f"{name} was changed. It counts from now on.")

    async def reset(self, visit: Visit) -> Response:
        """GET /web/user/{name}/reset: asks first."""
        person = _person(visit, await _info(visit))
        return await visit.page("user_reset.html", person=person, list_url=LIST)

    async def submit_reset(self, visit: Visit) -> Response:
        """POST /web/user/{name}/reset"""
        made = await visit.auth.reset_user(name=visit.part("name"))
        return await self._invited(visit, made, is_new=False)

    async def remove(self, visit: Visit) -> Response:
        """GET /web/user/{name}/remove: asks first."""
        info = await _info(visit)
        person = _person(visit, info)
        nobody_left = NOBODY_LEFT if await _is_last(visit, info) else ""
        opened: Counter[str] | None = None
        if ("session", "list") in await visit.auth.own_rights():
            found = await visit.auth.list_sessions(user=person.name, limit=MAX_COUNTED)
            opened = Counter(session.kind for session in found)
        return await visit.page(
            "user_remove.html",
            person=person,
            opened=opened,
            nobody_left=nobody_left,
            list_url=LIST,
        )

    async def submit_remove(self, visit: Visit) -> Response:
        """POST /web/user/{name}/remove"""
        name = visit.part("name")
        await visit.auth.delete_user(name=name)
        return visit.done(LIST, f"{name} was removed, and is signed out everywhere.")


# --- What pages show ---------------------------------------------------------------------------------


async def _info(visit: Visit) -> UserInfo:
    """Return the user that the path names, or raise NotFound: a page of its own."""
    name = visit.part("name")
    for info in await visit.auth.list_users():
        if info.user.name == name:
            return info
    raise NotFound(f"no user is called {name[:128]!r}")


async def _is_last(visit: Visit, info: UserInfo) -> bool:
    """Tell whether nobody but this person may administer in the browser."""
    names = [each.user.name for each in await visit.auth.list_users() if each.administers]
    return names == [info.user.name]


def _person(visit: Visit, info: UserInfo) -> Person:
    user = info.user
    state, mood, until = _state(info, visit.now)
    return Person(
        name=user.name,
        url=_url(user.name),
        roles=user.roles,
        traits=trait_lines(user.traits),
        origin=user.origin,
        state=state,
        mood=mood,
        until=until,
        is_self=user.id == visit.session.user_id,
        lift_url=lift_url(info.lock) if info.lock else "",
        lent={grant.role: clock_time(grant.until, visit.now) for grant in user.grants},
    )


def _state(info: UserInfo, now: datetime) -> tuple[str, str, Since | None]:
    if info.lock:
        return "locked", "bad", None
    if info.locked_until is not None:
        return "locked until", "bad", clock_time(info.locked_until, now)
    if info.invited_until is not None:
        return "invited until", "", clock_time(info.invited_until, now)
    if not info.user.is_local:
        is_in = info.user.counts(now)
        return f"by {info.user.origin}", "good" if is_in else "", None
    if info.has_password:
        return "active", "good", None
    return "invite expired", "bad", None


def _matches(person: Person, terms: Sequence[str]) -> bool:
    text = " ".join((person.name, *person.roles, *person.traits, person.state)).lower()
    return all(term in text for term in terms)


def _url(name: str) -> str:
    return f"/web/user/{quote(name, safe='@')}"


class RoleChoice(NamedTuple):
    """A role to tick. `until`: it is given for a time, and stays so."""

    name: str
    description: str
    ticked: bool
    until: Since | None = None


async def _roles(
    visit: Visit,
    *,
    ticked: Sequence[str] | Mapping[str, str],
    lent: Mapping[str, Since] = MappingProxyType({}),
) -> list[RoleChoice]:
    """Return the roles there are; those that are ticked come along even if they are no more."""
    known: Sequence[Role] = ()
    if ("role", "list") in await visit.auth.own_rights():
        known = await visit.auth.list_roles()
    gone = [name for name in ticked if name not in {role.name for role in known}]
    return [
        *(
            RoleChoice(role.name, role.description, role.name in ticked, lent.get(role.name))
            for role in sorted(known, key=lambda role: role.name)
        ),
        *(RoleChoice(name, "", ticked=True, until=lent.get(name)) for name in gone),
    ]


# --- What forms say ----------------------------------------------------------------------------------


def _ticked(form: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(field.removeprefix(ROLE_FIELD) for field in form if field.startswith(ROLE_FIELD))


def read_number(text: str) -> int:
    """Read a revision. One that is none is older than any."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


def trait_lines(traits: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Write traits as `name=value`, a line for each value."""
    return tuple(f"{name}={value}" for name, values in traits.items() for value in values)


def traits_from(text: str, what: str = "traits") -> dict[str, tuple[str, ...]]:
    """Read what `trait_lines` writes; `what` it is, for the message.

    Raises:
        InvalidRequest: naming the line.
    """
    traits: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name or not value:
            raise InvalidRequest(
                f"{what}, line {number}: {line.strip()[:80]!r} is not name=value",
                hint="write a line for each value: team=dev, and below it team=ops",
            )
        if value not in traits.get(name, ()):
            traits[name] = (*traits.get(name, ()), value)
    return traits
