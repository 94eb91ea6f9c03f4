"""Roles: what a person may do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import msgspec

from tport.engine.defaults import MAX_SESSION_TTL
from tport.engine.errors import InvalidRequest

RoleVersion = Literal["v3", "v4", "v5", "v6", "v7", "v8"]

_ROLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Rule(msgspec.Struct, frozen=True):
    """Which verbs on which kinds of resources; `*` stands for all."""

    resources: tuple[str, ...]
    verbs: tuple[str, ...]


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a role. Keys of `app_labels` are ANDed, the values of one key ORed.

    Values are literals, globs (`us-*`) or `^regular expressions$`, and may hold templates.
    """

    app_labels: Mapping[str, tuple[str, ...]] = {}
    rules: tuple[Rule, ...] = ()


class RoleOptions(msgspec.Struct, frozen=True, kw_only=True):
    max_session_ttl: timedelta = MAX_SESSION_TTL


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A role, versions v3 to v8.

    Attributes:
        other: fields of Teleport's roles that have no effect here, kept as they came.
    """

    name: str
    version: RoleVersion = "v8"
    description: str = ""
    allow: Conditions = Conditions()
    deny: Conditions = Conditions()
    options: RoleOptions = RoleOptions()
    other: Mapping[str, Any] = {}


_ANY = {"*": ("*",)}
_READ = ("list", "read")

PRESETS: Mapping[str, Role] = {
    role.name: role
    for role in (
        Role(
            name="access",
            description="Opens every application",
            allow=Conditions(app_labels=_ANY),
        ),
        Role(
            name="editor",
            description="Administers the cluster; opens no application",
            allow=Conditions(
                rules=(
                    Rule(
                        (
                            "user",
                            "role",
                            "token",
                            "app",
                            "app_server",
                            "session",
                            "lock",
                            "access_request",
                            "oidc",
                            "github",
                            "cluster_auth_preference",
                        ),
                        ("*",),
                    ),
                )
            ),
        ),
        Role(
            name="auditor",
            description="Reads the audit log; opens no application",
            allow=Conditions(rules=(Rule(("event", "session"), _READ),)),
        ),
    )
}


def check_role_name(name: str) -> str:
    """Return `name` when it can be a role's.

    Raises:
        InvalidRequest: with the rule in words.
    """
    if not _ROLE_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is no role name (letters, digits, '_', '.', '-'; at most 64)"
        )
    return name
