"""What is said and asked about certificates for browsers, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.certificates import CertInfo
from tport.engine.auth.calls.caller import Caller, call
from tport.engine.types.certificate import CertState


class CertificateCalls(Caller):
    @call
    async def report_certificates(self, *, states: tuple[CertState, ...]) -> None:
        self.service.certificates.told(self.name, states)

    @call
    async def list_certificates(self) -> tuple[CertInfo, ...]:
        return self.service.certificates.all()
