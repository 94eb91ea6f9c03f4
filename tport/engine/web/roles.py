"""The pages about roles: a form and YAML for each, and who would open what by it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec.structs import replace
from starlette.responses import Response
from starlette.routing import Route

from tport.engine.access.rules import read_session_ttl, role_from_resource
from tport.engine.api.roles import Opens, RoleInfo
from tport.engine.config.resource_text import duration_text, yaml_text
from tport.engine.config.resources import read_resources
from tport.engine.errors import (
    CompareFailed,
    ConfigError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
)
from tport.engine.types.resource import RoleResource
from tport.engine.types.role import Conditions, Role
from tport.engine.web.assets import ROLE_SCRIPT
from tport.engine.web.users import read_number, trait_lines, traits_from
from tport.engine.web.visit import SignedInRoutes, Visit

LIST: Final = "/web/roles"
ADD: Final = f"{LIST}/add"
ADD_TEXT: Final = f"{LIST}/add-yaml"
_ONE: Final = "/web/role/{name}"
NEW: Final = Role(name="", description="")
PREVIEW: Final = "preview"  # what the button says that doesn't save


class Row(NamedTuple):
    """A role as the list shows it."""

    name: str
    url: str
    description: str
    opens: str
    denies: str
    administers: tuple[str, ...]
    ttl: str
    users: Sequence[str]
    is_preset: bool


class Change(NamedTuple):
    """What a role changes for a user."""

    user: str
    url: str
    gains: tuple[str, ...]
    loses: tuple[str, ...]
    then: tuple[str, ...]


class RolePages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        create, update, delete = ("role", "create"), ("role", "update"), ("role", "delete")
        return [
            signed_in.get(LIST, self.list, ("role", "list")),
            signed_in.form(ADD, self.add, self.submit_add, create),
            signed_in.form(ADD_TEXT, self.add_text, self.submit_add_text, create),
            signed_in.form(_ONE, self.edit, self.submit_edit, update),
            signed_in.form(f"{_ONE}/yaml", self.edit_text, self.submit_edit_text, update),
            signed_in.form(f"{_ONE}/delete", self.delete, self.submit_delete, delete),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/roles"""
        rows = [_row(info) for info in await visit.auth.list_role_infos()]
        return await visit.page("roles.html", roles=rows, add_url=ADD)

    # A new one

    async def add(self, visit: Visit) -> Response:
        """GET /web/roles/add"""
        return await _form(visit, NEW, ADD, ADD_TEXT)

    async def submit_add(self, visit: Visit) -> Response:
        """POST /web/roles/add"""
        role = _from_form(visit.form, visit.form.get("name", "").strip(), NEW)
        if visit.form.get("do") == PREVIEW:
            return await _form(visit, NEW, ADD, ADD_TEXT, preview=role)
        await visit.auth.create_role(role=role)
        return visit.done(_url(role.name), f"Role {role.name} was made. Give it to users now.")

    async def add_text(self, visit: Visit) -> Response:
        """GET /web/roles/add-yaml"""
        return await _text_form(visit, replace(NEW, name="developers"), ADD_TEXT, ADD)

    async def submit_add_text(self, visit: Visit) -> Response:
        """POST /web/roles/add-yaml"""
        role = _from_text(visit.form.get("yaml", ""))
        if visit.form.get("do") == PREVIEW:
            return await _text_form(visit, role, ADD_TEXT, ADD, preview=role)
        await visit.auth.create_role(role=role)
        return visit.done(_url(role.name), f"Role {role.name} was made. Give it to users now.")

    # One that is there

    async def edit(self, visit: Visit) -> Response:
        """GET /web/role/{name}"""
        info = await _info(visit)
        url = _url(info.role.name)
        return await _form(visit, info.role, url, f"{url}/yaml", info=info, preview=info.role)

    async def submit_edit(self, visit: Visit) -> Response:
        """POST /web/role/{name}"""
        info = await _info(visit)
        url = _url(info.role.name)
        role = _from_form(visit.form, info.role.name, info.role)
        if visit.form.get("do") == PREVIEW:
            return await _form(visit, info.role, url, f"{url}/yaml", info=info, preview=role)
        return await _save(visit, role)

    async def edit_text(self, visit: Visit) -> Response:
        """GET /web/role/{name}/yaml"""
        info = await _info(visit)
        url = _url(info.role.name)
        return await _text_form(visit, info.role, f"{url}/yaml", url, info=info)

    async def submit_edit_text(self, visit: Visit) -> Response:
        """POST /web/role/{name}/yaml"""
        info = await _info(visit)
        url = _url(info.role.name)
        role = _from_text(visit.form.get("yaml", ""))
        if role.name != info.role.name:
            raise InvalidRequest(
                f"this page changes {info.role.name!r}, and the text says {role.name!r}",
                hint="a role's name can't be changed; make another role",
            )
        if visit.form.get("do") == PREVIEW:
            return await _text_form(visit, info.role, f"{url}/yaml", url, info=info, preview=role)
        return await _save(visit, role)

    async def delete(self, visit: Visit) -> Response:
        """GET /web/role/{name}/delete: asks first."""
        row = _row(await _info(visit))
        return await visit.page("role_delete.html", row=row, list_url=LIST)

    async def submit_delete(self, visit: Visit) -> Response:
        """POST /web/role/{name}/delete"""
        name = visit.part("name")
        await visit.auth.delete_role(name=name)
        return visit.done(LIST, f"Role {name} was deleted.")


async def _save(visit: Visit, role: Role) -> Response:
    await visit.auth.update_role(role=role, revision=read_number(visit.form.get("revision", "")))
    return visit.done(_url(role.name), f"Role {role.name} was changed. It counts from now on.")


# --- What pages show ---------------------------------------------------------------------------------


async def _form(
    visit: Visit,
    role: Role,
    action: str,
    text_url: str,
    *,
    info: RoleInfo | None = None,
    preview: Role | None = None,
) -> Response:
    """Show a role as a form: what was typed, else what is stored."""
    typed: Mapping[str, str] = defaultdict(str, visit.form or _to_form(role))
    return await visit.page(
        "role.html",
        name=role.name,
        role=msgspec.json.encode(role).decode(),
        role_script_url=ROLE_SCRIPT.url,
        fields=typed,
        action=action,
        text_url=text_url,
        **_common(visit, info),
        **await _preview(visit, preview),
    )


async def _text_form(
    visit: Visit,
    role: Role,
    action: str,
    form_url: str,
    *,
    info: RoleInfo | None = None,
    preview: Role | None = None,
) -> Response:
    return await visit.page(
        "role_yaml.html",
        name=role.name if info else "",
        text=visit.form.get("yaml", yaml_text([RoleResource(role=role)])),
        action=action,
        form_url=form_url,
        **_common(visit, info),
        **await _preview(visit, preview),
    )


def _common(visit: Visit, info: RoleInfo | None) -> dict[str, object]:
    return {
        "list_url": LIST,
        "row": _row(info) if info else None,
        "revision": info.revision if info else 0,
        "now": yaml_text([RoleResource(role=info.role)])
        if info and isinstance(visit.problem, CompareFailed)
        else "",
    }


async def _preview(visit: Visit, role: Role | None) -> dict[str, object]:
    """Return who would open what, those first for whom something changes; `busy`: others are told just now."""
    nothing: dict[str, object] = {"alone": None, "changes": (), "others": (), "busy": False}
    if role is None or visit.problem is not None:
        return nothing
    try:
        told = await visit.auth.preview_role(role=role)
    except LimitExceeded:  # the form works without
        return {**nothing, "busy": True}
    users = [_change(opens) for opens in told.users]
    return {
        "alone": told.alone,
        "changes": [user for user in users if user.gains or user.loses],
        "others": [user for user in users if not (user.gains or user.loses)],
        "busy": False,
    }


def _change(opens: Opens) -> Change:
    return Change(
        user=opens.user,
        url=f"/web/user/{quote(opens.user, safe='@')}",
        gains=tuple(app for app in opens.then if app not in opens.now),
        loses=tuple(app for app in opens.now if app not in opens.then),
        then=opens.then,
    )


async def _info(visit: Visit) -> RoleInfo:
    name = visit.part("name")
    for info in await visit.auth.list_role_infos():
        if info.role.name == name:
            return info
    raise NotFound(f"no role is called {name[:64]!r}")


def _row(info: RoleInfo) -> Row:
    role = info.role
    return Row(
        name=role.name,
        url=_url(role.name),
        description=role.description,
        opens=_labels(role.allow),
        denies=_labels(role.deny),
        administers=rule_lines(role.allow),
        ttl=_short(role.options.max_session_ttl),
        users=info.users,
        is_preset=info.is_preset,
    )


def _labels(side: Conditions) -> str:
    """Say in words which applications are meant; "": none."""
    if "*" in side.app_labels:
        return "every application"
    return " and ".join(
        f"{key} {' or '.join(values)}" for key, values in sorted(side.app_labels.items())
    )


def _url(name: str) -> str:
    return f"/web/role/{quote(name, safe='')}"


# --- What forms say ----------------------------------------------------------------------------------


def _to_form(role: Role) -> dict[str, str]:
    return {
        "description": role.description,
        "allow_labels": "\n".join(trait_lines(role.allow.app_labels)),
        "deny_labels": "\n".join(trait_lines(role.deny.app_labels)),
        "ttl": _short(role.options.max_session_ttl),
        "allow_rules": "\n".join(rule_lines(role.allow)),
        "deny_rules": "\n".join(rule_lines(role.deny)),
    }


def _short(length: timedelta) -> str:
    text = duration_text(length)
    for zero in ("m0s", "h0m"):
        text = text.removesuffix(zero) + zero[0] if text.endswith(zero) else text
    return text


def _from_form(form: Mapping[str, str], name: str, before: Role) -> Role:
    """Read the form, by the same rules as YAML; what the form doesn't show stays as it was.

    Raises:
        InvalidRequest: naming the field.
    """
    sides = {
        side: {
            "app_labels": {
                key: list(values)
                for key, values in traits_from(form.get(f"{side}_labels", ""), where).items()
            },
            "rules": _rules(form.get(f"{side}_rules", ""), f"{where} rules"),
        }
        for side, where in (("allow", "what it opens"), ("deny", "what it denies"))
    }
    ttl = form.get("ttl", "").strip()
    try:
        read_session_ttl(ttl)
    except InvalidRequest:
        raise InvalidRequest(
            f"sessions end after: {ttl[:80]!r} is no duration", hint="write it like 8h or 1h30m"
        ) from None
    resource: dict[str, Any] = {
        "kind": "role",
        "version": before.version,
        "metadata": {"name": name, "description": form.get("description", "").strip()},
        "spec": {"options": {"max_session_ttl": ttl}, **sides},
    }
    role, _ = role_from_resource(resource)
    return replace(role, other=before.other)


def rule_lines(side: Conditions) -> tuple[str, ...]:
    """Write rules as `user, role: list, read`, a line each."""
    return tuple(f"{', '.join(rule.resources)}: {', '.join(rule.verbs)}" for rule in side.rules)


def _rules(text: str, what: str) -> list[dict[str, list[str]]]:
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        kinds, colon, verbs = line.partition(":")
        if not colon:
            raise InvalidRequest(
                f"{what}, line {number}: {line.strip()[:80]!r} is not kinds: verbs",
                hint="write it like user, role: list, read",
            )
        rules.append({"resources": _words(kinds), "verbs": _words(verbs)})
    return rules


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]


def _from_text(text: str) -> Role:
    """Read the one role that a YAML text holds.

    Raises:
        InvalidRequest: all that is wrong, each with line and column.
    """
    try:
        found, _ = read_resources(text, name="YAML")
    except ConfigError as problem:
        raise InvalidRequest(str(problem), hint=problem.hint) from None
    if len(found) != 1 or not isinstance(found[0].resource, RoleResource):
        raise InvalidRequest("this page takes one role: one document whose kind is role")
    return found[0].resource.role
