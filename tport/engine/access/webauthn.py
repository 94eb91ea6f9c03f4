"""Passkeys and security keys: what a browser is asked, and whether its answer counts. W3C WebAuthn.

fido2 reads the authenticator's bytes and checks signatures; which origin, challenge, algorithm,
flags and counter are good enough is said here. All of it is JSON text to the browser and back.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from tport.engine.errors import InvalidRequest
from tport.engine.types.factor import WebauthnDevice

CHALLENGE_BYTES: Final = 32
MAX_ANSWER: Final = 16 * 1024  # characters of what a browser sends; attestation is not asked for
TIMEOUT: Final = (
    300_000  # ms that a browser waits for the authenticator; the challenge lives as long
)

# ES256, EdDSA, RS256: COSE names. Others (RS1: SHA-1) are not offered and not taken.
ALGORITHMS: Final = (-7, -8, -257)


class NewCredential(msgspec.Struct, frozen=True, kw_only=True):
    """What an authenticator made: fields as in `WebauthnDevice`."""

    credential: str
    public_key: str
    sign_count: int


class RelyingParty(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks.

    Attributes:
        id: the host of the proxy's first public address.
        name: the cluster's.
        origins: exactly those whose pages may ask: applications live below `id` too.
    """

    id: str
    name: str
    origins: tuple[str, ...]


def creation_options(
    party: RelyingParty,
    challenge: str,
    *,
    user_id: str,
    user: str,
    taken: Sequence[WebauthnDevice],
) -> str:
    """Return what `navigator.credentials.create` takes, as JSON. `taken`: what the person has."""
    return json.dumps(
        {
            "rp": {"id": party.id, "name": party.name},
            "user": {"id": encode(user_id.encode()), "name": user, "displayName": user},
            "challenge": challenge,
            "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in ALGORITHMS],
            "timeout": TIMEOUT,
            "excludeCredentials": _descriptors(party, taken),
            # A passkey if it can be one: then it signs in without a name or a password.
            "authenticatorSelection": {
                "residentKey": "preferred",
                "requireResidentKey": False,
                "userVerification": "preferred",
            },
            "attestation": "none",
        }
    )


def request_options(
    party: RelyingParty, challenge: str, devices: Sequence[WebauthnDevice], *, verify: bool
) -> str:
    """Return what `navigator.credentials.get` takes, as JSON.

    Args:
        devices: those that may answer; none: any passkey for this host.
        verify: the person must prove to the authenticator too who they are.
    """
    return json.dumps(
        {
            "challenge": challenge,
            "rpId": party.id,
            "timeout": TIMEOUT,
            "allowCredentials": _descriptors(party, devices),
            "userVerification": "required" if verify else "preferred",
        }
    )


def check_registration(answer: str, party: RelyingParty, challenge: str) -> NewCredential:
    """Return the new credential of an answer to `creation_options`.

    Raises:
        InvalidRequest: it doesn't count. The message says why, for the audit log.
    """
    from fido2.webauthn import RegistrationResponse

    try:
        response = RegistrationResponse.from_dict(_json(answer))
        _check_client(response.response.client_data, "webauthn.create", party, challenge)
        data = response.response.attestation_object.auth_data
        _check_flags(data, party, verify=False)
        made = data.credential_data
        if made is None or made.credential_id != response.raw_id:
            raise InvalidRequest("the answer holds no credential")
        if made.public_key.get(3) not in ALGORITHMS:
            raise InvalidRequest(f"its algorithm {made.public_key.get(3)!r} is not taken")
        from fido2 import cbor

        return NewCredential(
            credential=encode(made.credential_id),
            public_key=encode(cbor.encode(dict(made.public_key))),
            sign_count=data.counter,
        )
    except InvalidRequest:
        raise
    except Exception as problem:  # whatever else a parser makes of hostile bytes
        raise InvalidRequest(f"the answer can't be read: {type(problem).__name__}") from None


def credential_of(answer: str) -> str:
    """Return which credential an answer claims to be of, base64url.

    Raises:
        InvalidRequest: it can't be read.
    """
    claimed = _json(answer).get("rawId")
    if not isinstance(claimed, str):
        raise InvalidRequest("the answer names no credential")
    return claimed.rstrip("=")


def check_assertion(
    answer: str, party: RelyingParty, challenge: str, device: WebauthnDevice, *, verify: bool
) -> int:
    """Return the authenticator's counter, of an answer to `request_options` that counts.

    Raises:
        InvalidRequest: it doesn't. The message says why, for the audit log.
    """
    from cryptography.exceptions import InvalidSignature
    from fido2 import cbor
    from fido2.cose import CoseKey
    from fido2.webauthn import AuthenticationResponse

    try:
        response = AuthenticationResponse.from_dict(_json(answer))
        if encode(response.raw_id) != device.credential:
            raise InvalidRequest("it is of another credential")
        if device.rp_id != party.id:
            raise InvalidRequest(f"it was made for {device.rp_id}")
        client = response.response.client_data
        _check_client(client, "webauthn.get", party, challenge)
        data = response.response.authenticator_data
        _check_flags(data, party, verify=verify)
        key = CoseKey.parse(cast("Mapping[int, Any]", cbor.decode(decode(device.public_key))))
        key.verify(bytes(data) + client.hash, response.response.signature)
        if (data.counter or device.sign_count) and data.counter <= device.sign_count:
            raise InvalidRequest("its counter went back: the authenticator may have been copied")
        return int(data.counter)
    except InvalidRequest:
        raise
    except InvalidSignature:
        raise InvalidRequest("its signature is wrong") from None
    except Exception as problem:  # whatever else a parser makes of hostile bytes
        raise InvalidRequest(f"the answer can't be read: {type(problem).__name__}") from None


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _check_client(client: Any, type_: str, party: RelyingParty, challenge: str) -> None:
    """Check what the browser says of itself. `client` is fido2's CollectedClientData."""
    if client.type != type_:
        raise InvalidRequest(f"it is no answer of the kind {type_}")
    if encode(client.challenge) != challenge:
        raise InvalidRequest("it answers another challenge")
    if client.origin not in party.origins:
        raise InvalidRequest(f"it comes from {str(client.origin)[:256]!r}, no address of the proxy")
    if client.cross_origin:
        raise InvalidRequest("it comes from inside another site's page")


def _check_flags(data: Any, party: RelyingParty, *, verify: bool) -> None:
    """Check what the authenticator says. `data` is fido2's AuthenticatorData."""
    from hashlib import sha256

    if data.rp_id_hash != sha256(party.id.encode()).digest():
        raise InvalidRequest("it was made for another host")
    if not data.is_user_present():
        raise InvalidRequest("nobody was present")
    if verify and not data.is_user_verified():
        raise InvalidRequest("the authenticator did not ask who it is")


def _descriptors(
    party: RelyingParty, devices: Collection[WebauthnDevice]
) -> list[dict[str, object]]:
    return [
        {"type": "public-key", "id": device.credential}
        for device in devices
        if device.rp_id == party.id
    ]


def _json(answer: str) -> dict[str, Any]:
    if len(answer) > MAX_ANSWER:
        raise InvalidRequest("the answer is too long")
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        raise InvalidRequest("the answer is no JSON") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the answer is no object")
    return value
