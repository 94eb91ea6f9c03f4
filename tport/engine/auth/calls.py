"""AuthAPI as one caller may use it: the parts of its body, put together."""

from __future__ import annotations

from tport.engine.auth.account_calls import AccountCalls
from tport.engine.auth.acme_calls import AcmeCalls
from tport.engine.auth.administration_calls import AdministrationCalls
from tport.engine.auth.approval_calls import ApprovalCalls
from tport.engine.auth.audit_calls import AuditCalls
from tport.engine.auth.catalogue_calls import CatalogueCalls
from tport.engine.auth.certificate_calls import CertificateCalls
from tport.engine.auth.device_token_calls import DeviceTokenCalls
from tport.engine.auth.factor_calls import FactorCalls
from tport.engine.auth.health_calls import HealthCalls
from tport.engine.auth.home_calls import HomeCalls
from tport.engine.auth.icon_calls import IconCalls
from tport.engine.auth.lock_calls import LockCalls
from tport.engine.auth.machine_calls import MachineCalls
from tport.engine.auth.people_calls import PeopleCalls
from tport.engine.auth.preference_calls import PreferenceCalls
from tport.engine.auth.request_calls import RequestCalls
from tport.engine.auth.resource_calls import ResourceCalls
from tport.engine.auth.role_calls import RoleCalls
from tport.engine.auth.session_calls import SessionCalls


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
):
    """The body of AuthAPI in auth's process; `AuthService.as_caller` makes one per caller."""
