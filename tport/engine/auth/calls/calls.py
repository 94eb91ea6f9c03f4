"""AuthAPI as one caller may use it: the parts of its body, put together."""

from __future__ import annotations

from tport.engine.auth.calls.account import AccountCalls
from tport.engine.auth.calls.acme import AcmeCalls
from tport.engine.auth.calls.administration import AdministrationCalls
from tport.engine.auth.calls.approval import ApprovalCalls
from tport.engine.auth.calls.audit import AuditCalls
from tport.engine.auth.calls.catalogue import CatalogueCalls
from tport.engine.auth.calls.certificate import CertificateCalls
from tport.engine.auth.calls.device_token import DeviceTokenCalls
from tport.engine.auth.calls.factor import FactorCalls
from tport.engine.auth.calls.health import HealthCalls
from tport.engine.auth.calls.home import HomeCalls
from tport.engine.auth.calls.icon import IconCalls
from tport.engine.auth.calls.lock import LockCalls
from tport.engine.auth.calls.machine import MachineCalls
from tport.engine.auth.calls.people import PeopleCalls
from tport.engine.auth.calls.preference import PreferenceCalls
from tport.engine.auth.calls.request import RequestCalls
from tport.engine.auth.calls.resource import ResourceCalls
from tport.engine.auth.calls.role import RoleCalls
from tport.engine.auth.calls.session import SessionCalls
from tport.engine.auth.calls.sso import SsoCalls


class Calls(
    MachineCalls,
    PeopleCalls,
    FactorCalls,
    AccountCalls,
    AdministrationCalls,
    RequestCalls,
    ApprovalCalls,
    HealthCalls,
    HomeCalls,
    LockCalls,
    SessionCalls,
    AuditCalls,
    CatalogueCalls,
    CertificateCalls,
    IconCalls,
    RoleCalls,
    DeviceTokenCalls,
    PreferenceCalls,
    ResourceCalls,
    AcmeCalls,
    SsoCalls,
):
    """The body of AuthAPI in auth's process; `AuthService.as_caller` makes one per caller."""
