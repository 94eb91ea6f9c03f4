"""The pages about locks: who or what is kept out, for how long, and lifting that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.errors import InvalidRequest, NotFound
from tport.engine.types.lock import MAX_MESSAGE, Lock, LockTarget
from tport.engine.web.errors import Since
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit

LIST: Final = "/web/locks"
ADD: Final = f"{LIST}/add"
KINDS: Final = (("user", "a user"), ("role", "everybody with a role"), ("server_id", "an agent"))
SPANS: Final = (
    ("0", "until it is lifted"),
    ("3600", "an hour"),
    ("86400", "a day"),
    ("604800", "a week"),
)


class Row(NamedTuple):
    """A lock as the list shows it."""

    kind: str
    target: str
    message: str
    made: Since | None
    by: str
    until: Since | None
    lift_url: str


class LockPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.get(LIST, self.list, ("lock", "list")),
            signed_in.form(ADD, self.add, self.submit_add, ("lock", "create")),
            signed_in.form("/web/lock/{name}/lift", self.ask, self.lift, ("lock", "delete")),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/locks"""
        rows = [_row(lock, visit) for lock in await visit.auth.list_locks()]
        return await visit.page("locks.html", locks=rows, add_url=ADD)

    async def add(self, visit: Visit) -> Response:
        """GET /web/locks/add?user=<name>"""
        form: Mapping[str, str] = visit.form or {
            "kind": "user",
            "target": visit.request.query_params.get("user", "")[:128],
            "span": SPANS[0][0],
        }
        return await visit.page(
            "lock_add.html",
            kinds=KINDS,
            kind=form.get("kind", ""),
            target=form.get("target", ""),
            message=form.get("message", ""),
            spans=SPANS,
            span=form.get("span", ""),
            max_message=MAX_MESSAGE,
            list_url=LIST,
            add_url=ADD,
        )

    async def submit_add(self, visit: Visit) -> Response:
        """POST /web/locks/add"""
        form = visit.form
        kind, name = form.get("kind", ""), form.get("target", "").strip()
        if kind not in dict(KINDS) or form.get("span") not in dict(SPANS):
            raise InvalidRequest("choose what is locked, and for how long")
        if not name:
            raise InvalidRequest("name whom the lock keeps out")
        lock = await visit.auth.create_lock(
            target=_target(kind, name),
            message=form.get("message", "").strip(),
            ttl=float(form["span"]),
        )
        return visit.done(LIST, f"{_row(lock, visit).target} is locked out from now on.")

    async def ask(self, visit: Visit) -> Response:
        """GET /web/lock/{name}/lift: asks first."""
        return await visit.page("lock_lift.html", row=await _found(visit), list_url=LIST)

    async def lift(self, visit: Visit) -> Response:
        """POST /web/lock/{name}/lift"""
        row = await _found(visit)
        await visit.auth.delete_lock(name=visit.part("name"))
        return visit.done(LIST, f"{row.target} is locked out no more.")


def lift_url(name: str) -> str:
    return f"/web/lock/{quote(name, safe='')}/lift"


def _target(kind: str, name: str) -> LockTarget:
    match kind:
        case "user":
            return LockTarget(user=name)
        case "role":
            return LockTarget(role=name)
        case _:
            return LockTarget(server_id=name)


async def _found(visit: Visit) -> Row:
    name = visit.part("name")
    for lock in await visit.auth.list_locks():
        if lock.name == name:
            return _row(lock, visit)
    raise NotFound("there is no such lock any more")


def _row(lock: Lock, visit: Visit) -> Row:
    kind, _, name = str(lock.target).partition(" ")
    return Row(
        kind=kind,
        target=name,
        message=lock.message,
        made=clock_time(lock.created, visit.now) if lock.created else None,
        by=lock.created_by,
        until=clock_time(lock.expires, visit.now) if lock.expires else None,
        lift_url=lift_url(lock.name),
    )
