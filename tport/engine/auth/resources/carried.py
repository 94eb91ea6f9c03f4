"""Second factors on their way to another cluster: opened here, sealed there."""

from __future__ import annotations

from base64 import b64decode, b64encode

from msgspec.structs import replace

from tport.engine.auth.factors.devices import totp_context
from tport.engine.auth.seal import Seal
from tport.engine.errors import InvalidRequest
from tport.engine.types.factor import Device, Factors, TotpDevice


def opened(factors: Factors, seal: Seal) -> Factors:
    """Return a person's factors with authenticator apps' secrets as base64: whoever reads it has them.

    Raises:
        Unavailable: one was sealed with another key.
    """
    context = totp_context(factors.user_id)

    def open_(device: Device) -> Device:
        if not isinstance(device, TotpDevice):
            return device
        return replace(device, secret=b64encode(seal.open(device.secret, context)).decode())

    return replace(factors, devices=tuple(open_(device) for device in factors.devices))


def sealed(factors: Factors, seal: Seal) -> Factors:
    """Return what `opened` returned as it is stored where `seal`'s key is.

    Raises:
        InvalidRequest: a secret is no base64.
    """
    context = totp_context(factors.user_id)

    def close(device: Device) -> Device:
        if not isinstance(device, TotpDevice):
            return device
        try:
            secret = b64decode(device.secret, validate=True)
        except ValueError:
            raise InvalidRequest(f"the secret of device {device.name!r} is no base64") from None
        return replace(device, secret=seal.close(secret, context))

    return replace(factors, devices=tuple(close(device) for device in factors.devices))
