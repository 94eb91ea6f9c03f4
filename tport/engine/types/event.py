"""Audit events: Teleport's types and codes, one function's worth of fields each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. `fields` are the event's own, JSON values, no secret among them."""

    type: str
    code: str
    fields: Mapping[str, Any] = {}


# type, code. Source: Teleport's lib/events/codes.go; those marked * are tport's own.
CODES: Final[Mapping[str, str]] = {
    "user.login": "T1000I",
    "user.login.failed": "T1000W",  # written as user.login, success: false
    "user.login.sso": "T1001I",  # written as user.login
    "user.login.sso.failed": "T1001W",  # written as user.login, success: false
    "user.logout": "TPU01I",  # *
    "user.create": "T1002I",
    "user.update": "T1003I",
    "user.delete": "T1004I",
    "user.password_change": "T1005I",
    "user.locked": "TPU02W",  # * too many failures
    "user.unlocked": "TPU05I",  # * an administrator ended such a lock
    "user.proof": "TPU04I",  # * who is signed in has proven it anew
    "mfa.add": "T1006I",
    "mfa.add.failed": "TPU06W",  # * written as mfa.add, success: false
    "mfa.delete": "T1007I",
    "mfa.rename": "TPU03I",  # *
    "recovery_code.generated": "T1008I",
    "recovery_code.used": "T1009I",
    "reset_password_token.create": "T6000I",
    "join_token.create": "TJT00I",
    "join_token.delete": "TPT01I",  # *
    "instance.join": "TJ002I",
    "instance.join.failed": "TJ002E",  # written as instance.join, success: false
    "instance.join.asked": "TJP01I",  # * a machine asked to join by approval
    "instance.copied": "TJP02E",  # * two machines have been one agent: both are locked
    "cert.create": "TC000I",
    "acme.order": "TPC01I",  # * a certificate was obtained from a CA
    "acme.order.failed": "TPC02W",  # written as acme.order, success: false
    "cert.reload": "TPC03I",  # * a proxy shows the operator's certificates anew
    "cert.reload.failed": "TPC04E",  # written as cert.reload, success: false
    "role.created": "T9000I",
    "device_token.create": "TPD01I",  # *
    "device_token.delete": "TPD02I",  # *
    "device_token.use": "TPD03I",  # * at a proxy where it was not in use just before
    "access_request.create": "T5000I",
    "access_request.review": "T5002I",
    "access_request.expire": "T5005I",  # a role given for a time was taken back
    "role.deleted": "T9001I",
    "app.create": "TAP03I",  # applications that agents pick up
    "app.update": "TAP04I",
    "app.delete": "TAP05I",
    "github.created": "T8000I",
    "github.deleted": "T8001I",
    "github.updated": "T8002I",
    "oidc.created": "T8100I",
    "oidc.deleted": "T8101I",
    "oidc.updated": "T8102I",
    "sso.test": "TPU07I",  # * somebody tried a connector; nothing was changed
    "auth_preference.update": "TCAUTH001I",
    "secrets.read": "TPX02W",  # * password hashes or private keys were read, to be carried away
    "lock.created": "TLK00I",
    "lock.deleted": "TLK01I",
    "app.session.start": "T2007I",
    "app.session.start.failed": "T2007E",
    "app.session.end": "T2011I",
    "app.session.request": "T2009I",  # in the log of requests
    "app.refused": "TPA01W",  # * an agent's offer was refused
    "auth.failed": "T3007W",
    "app.access.denied": "TPA02W",  # * a request was refused for its role
    "header.rewrite.skipped": "TPA03W",  # *
    "app.dial.denied": "TPA04W",  # * an application's name leads where agents don't connect
    "app.probe": "TPA05I",  # * an administrator had an application tried by its agent
    "tunnel.up": "TPN01I",  # *
    "tunnel.down": "TPN02I",  # *
    "tunnel.protocol_error": "TPN03E",  # *
    "audit.lost": "TPX01E",  # * events that could not be written
    "audit.sampled": "TPX05W",  # * the same failure so often that the rest of a minute's was counted
    "audit.damaged": "TPX02E",  # * the end of a log is not as it was written
    "audit.removed": "TPX03I",  # * files were kept as long as the configuration says
    "clock.set_back": "TPX06W",  # * and all sessions are ended, so that none lives longer
    "storage.rollback": "TPX04W",  # * the database lost writes, and the operator goes on with it
}


def event(type_: str, **fields: object) -> Event:
    """Make the event of `type_`, a key of CODES; a type that ends in `.failed` is a failure of the rest.

    Moments among the fields are written as RFC 3339 in UTC, to the second.

    Raises:
        KeyError: no such event: a bug.
    """
    code = CODES[type_]
    fields = {name: _moment(value) for name, value in fields.items()}
    if type_.endswith(".failed") and type_ != "auth.failed":
        type_, fields = type_.removesuffix(".failed"), {"success": False, **fields}
    return Event(type=type_.removesuffix(".sso"), code=code, fields=fields)


def _moment(value: object) -> object:
    if not isinstance(value, datetime):
        return value
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
