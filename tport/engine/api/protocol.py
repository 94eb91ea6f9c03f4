"""AuthAPI: every call that a proxy, an agent or a command may make of auth.

Two bodies keep this promise: `auth.server` in this process, and `api.remote` over mutual
TLS. The wire format follows from the signatures here (`api.wire`); who may make which call is
the table `CALLERS`, and a call without a row does not exist. Each part has its own module, with
its rows beside its calls.

Every call may raise AccessDenied (the caller may not), Unavailable (storage), and, when remote,
ConnectionProblem; only what is particular is said below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api import (
    account,
    acme,
    administration,
    approval,
    audit,
    catalogue,
    certificates,
    device_tokens,
    factors,
    health,
    home,
    icons,
    locks,
    machines,
    people,
    preference,
    requests,
    resources,
    roles,
    sessions,
    sso,
)
from tport.engine.api.account import AccountAPI
from tport.engine.api.acme import AcmeAPI
from tport.engine.api.administration import AdministrationAPI
from tport.engine.api.approval import ApprovalAPI
from tport.engine.api.audit import AuditAPI
from tport.engine.api.callers import Rule
from tport.engine.api.catalogue import CatalogueAPI
from tport.engine.api.certificates import CertificateAPI
from tport.engine.api.device_tokens import DeviceTokenAPI
from tport.engine.api.factors import FactorAPI
from tport.engine.api.health import HealthAPI
from tport.engine.api.home import HomeAPI
from tport.engine.api.icons import IconAPI
from tport.engine.api.locks import LockAPI
from tport.engine.api.machines import MachineAPI
from tport.engine.api.people import PeopleAPI
from tport.engine.api.preference import PreferenceAPI
from tport.engine.api.requests import RequestAPI
from tport.engine.api.resources import ResourceAPI
from tport.engine.api.roles import RoleAPI
from tport.engine.api.sessions import SessionAPI
from tport.engine.api.sso import SsoAPI


class AuthAPI(
    MachineAPI,
    PeopleAPI,
    FactorAPI,
    AccountAPI,
    AdministrationAPI,
    RequestAPI,
    ApprovalAPI,
    HealthAPI,
    HomeAPI,
    LockAPI,
    SessionAPI,
    AuditAPI,
    CatalogueAPI,
    CertificateAPI,
    IconAPI,
    RoleAPI,
    DeviceTokenAPI,
    PreferenceAPI,
    ResourceAPI,
    AcmeAPI,
    SsoAPI,
    Protocol,
):
    def acting_for(self, secret: str) -> AuthAPI:
        """Return the API as a person may use it: for proxies, whose pages they use.

        `secret` is the value of the cookie that came with this very request: a proxy can act for
        who is before it, and for nobody whose session it only heard of.

        Nothing is asked yet. Each call raises NotSignedIn when the session is over, and
        AccessDenied unless RULES has the call and the person's roles allow it then.
        """
        ...


_PARTS = (
    account,
    machines,
    people,
    factors,
    administration,
    requests,
    approval,
    health,
    home,
    locks,
    sessions,
    audit,
    catalogue,
    certificates,
    icons,
    roles,
    device_tokens,
    preference,
    resources,
    acme,
    sso,
)

# Who may make which call. "anyone" needs no certificate.
CALLERS: Final[Mapping[str, frozenset[str]]] = {
    call: callers for part in _PARTS for call, callers in part.CALLERS.items()
}

# What a person who is signed in may call through a proxy (`acting_for`), by the rules of their
# roles. What isn't here can't be called so.
RULES: Final[Mapping[str, Rule]] = {
    call: rule for part in _PARTS for call, rule in getattr(part, "RULES", {}).items()
}

# What auth does for a person only while the last proof of who they are is fresh (FRESH_PROOF):
# what changes how they are proven, and what gives somebody access.
FRESH: Final[frozenset[str]] = frozenset(
    call for part in _PARTS for call in getattr(part, "FRESH", ())
)
