"""The shape of resources' documents: every setting, its type, its default. Teleport's, and ours.

Read as the configuration file's sections are (`config.file`, `config.read`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

from tport.engine.config import file as shape
from tport.engine.config.dynamic_apps import NO_COMMANDS, NO_METADATA
from tport.engine.config.file import ONE_OR_MANY, SecondFactorKind, Section, Text, TextList
from tport.engine.config.words import parse_idle
from tport.engine.defaults import EARLIEST, LATEST
from tport.engine.errors import InvalidRequest
from tport.engine.types.factor import SecondFactor

_ZERO_TIME: Final = "0001-01-01T00:00:00Z"  # Go's, in what Teleport writes for "never"


def _time(text: str) -> str:
    """Check a time in RFC 3339; Go's zero time is none."""
    if text == _ZERO_TIME:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidRequest(f"{text[:80]!r} is no time; write it like 2026-01-31T12:00:00Z")
    if not EARLIEST <= moment <= LATEST:
        raise InvalidRequest(f"{text[:80]!r} is too far away: from {EARLIEST:%Y} to {LATEST:%Y}")
    return text


def moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _no_expiry(text: str) -> str:
    if text != _ZERO_TIME:
        raise InvalidRequest(
            "users don't expire here; lock them, or give a role for a time (tport requests)"
        )
    return ""


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidRequest(f"{text[:80]!r} is no whole number")
    return int(text)


def _count(text: str) -> int:
    """Read a counter of an authenticator: 32 bits."""
    if not (text.isascii() and text.isdigit() and int(text[:11]) < 2**32):
        raise InvalidRequest(f"{text[:80]!r} is no 32-bit number")
    return int(text)


class Metadata(Section, frozen=True):
    name: Text = ""
    description: Text = ""
    labels: Mapping[str, str] = {}
    expires: Annotated[str, _time] = ""
    revision: Text = ""

    without_effect = frozenset({"id", "namespace"})


class Document(Section, frozen=True):
    kind: Text = ""
    metadata: Metadata = Metadata()

    without_effect = frozenset({"sub_kind", "status"})


class DeviceSpec(Section, frozen=True):
    type: Literal["totp", "webauthn"] = "totp"
    id: Text = ""
    name: Text = ""
    added: Annotated[str, _time] = ""
    used: Annotated[str, _time] = ""
    secret: Text = ""
    step: Annotated[int, _whole] = 0
    credential: Text = ""
    public_key: Text = ""
    rp_id: Text = ""
    sign_count: Annotated[int, _count] = 0


class LocalAuth(Section, frozen=True):
    id: Text = ""
    mfa: tuple[DeviceSpec, ...] = ()
    recovery_codes: TextList = ()
    password_hash: Text = ""
    password_changed: Annotated[str, _time] = ""


class ProviderIdentity(Section, frozen=True):
    """Which connector vouches for a user, and how its provider tells them from all others."""

    type: Literal["oidc", "github"] = "oidc"
    id: Text = ""
    identity: Text = ""


class CreatedBy(Section, frozen=True):
    connector: ProviderIdentity = ProviderIdentity()

    without_effect = frozenset({"time", "user"})


class UserSpec(Section, frozen=True):
    roles: TextList = ()
    traits: Mapping[str, TextList] = {}
    expires: Annotated[str, _no_expiry] = ""
    created_by: CreatedBy = CreatedBy()
    local_auth: LocalAuth = LocalAuth()

    without_effect = frozenset(
        {"status", "oidc_identities", "saml_identities", "github_identities"}
    )


class UserDocument(Document, frozen=True):
    version: Literal["v2"] = "v2"
    spec: UserSpec = UserSpec()


class TokenSpec(Section, frozen=True):
    roles: TextList = ()
    join_method: Literal["token"] = "token"
    app_name: Text = ""
    app_uri: Text = ""
    max_uses: Annotated[int, _whole] = 0
    uses: Annotated[int, _whole] = 0

    without_effect = frozenset({"suggested_labels", "suggested_agent_matcher_labels"})
    refused = dict.fromkeys(
        ("allow", "bot_name", "aws_iid_ttl"), "tokens of other join methods are not supported"
    )


class TokenDocument(Document, frozen=True):
    version: Literal["v2"] = "v2"
    spec: TokenSpec = TokenSpec()


class Target(Section, frozen=True):
    user: Text = ""
    role: Text = ""
    server_id: Text = ""
    node: Text = ""

    refused = dict.fromkeys(
        ("login", "mfa_device", "windows_desktop", "access_request", "device", "join_token"),
        "is no target here, and leaving it out would lock others; expected user, role or server_id",
    )


class LockSpec(Section, frozen=True):
    target: Target = Target()
    message: Text = ""
    expires: Annotated[str, _time] = ""

    without_effect = frozenset({"created_at", "created_by"})


class LockDocument(Document, frozen=True):
    version: Literal["v2"] = "v2"
    spec: LockSpec = LockSpec()


class Webauthn(Section, frozen=True):
    rp_id: Text = ""

    without_effect = frozenset({"attestation_allowed_cas", "attestation_denied_cas"})


class PreferenceSpec(Section, frozen=True):
    type: Literal["local"] = "local"
    second_factor: SecondFactor = "on"
    second_factors: Annotated[tuple[SecondFactorKind, ...], ONE_OR_MANY] = ()
    allow_local_auth: bool = True
    local_auth: bool = True
    web_idle_timeout: Annotated[float, parse_idle] = 0.0
    webauthn: Webauthn = Webauthn()

    without_effect = (
        shape.Authentication.without_effect - {"webauthn", "allow_local_auth"}
    ) | frozenset(
        {
            "allow_headless",
            "allow_passwordless",
            "idp",
            "message_of_the_day",
            "okta",
            "signature_algorithm_suite",
            "stable_unix_user_config",
        }
    )


class PreferenceDocument(Document, frozen=True):
    version: Literal["v2"] = "v2"
    spec: PreferenceSpec = PreferenceSpec()


class AppSpec(shape.AppEntry, frozen=True):
    without_effect = shape.AppEntry.without_effect | {"integration"}
    refused = {
        **shape.AppEntry.refused,
        "dynamic_labels": NO_COMMANDS,
        "commands": NO_COMMANDS,
        "allow_metadata": NO_METADATA,
    }


class AppDocument(Document, frozen=True):
    version: Literal["v3"] = "v3"
    spec: AppSpec = AppSpec()


class AuthoritySpec(Section, frozen=True):
    kind: Literal["host", "user", "web", "jwt"] = "host"
    cluster: Text = ""
    generation: Annotated[int, _whole] = 1
    key: Text = ""
    trusted: TextList = ()


class AuthorityDocument(Document, frozen=True):
    version: Literal["v2"] = "v2"
    spec: AuthoritySpec = AuthoritySpec()
