"""What commands say of an application that is offered: its address, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tport.engine.api.answers import ClusterStatus
    from tport.engine.api.certificates import CertInfo
    from tport.engine.api.protocol import AuthAPI
    from tport.engine.types.app import AppServer


async def status_and_certificates(auth: AuthAPI) -> tuple[ClusterStatus, tuple[CertInfo, ...]]:
    return await auth.status(), await auth.list_certificates()


def lacking(certificates: tuple[CertInfo, ...]) -> set[str]:
    """Return the hosts that no source has a certificate for."""
    return {info.state.host for info in certificates if info.state.source == "none"}


def host_of(server: AppServer, status: ClusterStatus) -> str:
    """Return the public host of an application, without the port."""
    proxy = status.proxy_addrs[0] if status.proxy_addrs else ""
    return server.app.public_addr or f"{server.app.name}.{proxy.partition(':')[0]}"
