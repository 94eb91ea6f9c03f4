"""An ACME client (RFC 8555) as steps: what to send, wait for and show, in which order. Sans-IO.

Each method of `Conversation` is a generator: it yields a step, is sent what came of it, and
returns its result. Whoever drives it has the sockets, the clock and the deadlines.

    Send(request)       → Response
    Pause(seconds)      → None
    Show(challenges)    → None, once every place where the CA may look shows them
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import digest
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec

from tport.engine.proto.acme_answers import (
    Authorization,
    CaProblem,
    Directory,
    Order,
    RenewalInfo,
    Response,
    check,
    parse_chain,
    problem_of,
    read,
)
from tport.engine.types.acme import Challenge, ChallengeKind

MAX_BAD_NONCES: Final = 60  # in a row; of a CA that refuses half, one in 10¹⁸ meets so many
PATIENCE: Final = 300.0  # s of pauses while one authorization, or an order, makes up its mind
FIRST_PAUSE: Final = 0.25  # s between two looks, where the CA names none; then half as much again
LONGEST_PAUSE: Final = 15.0  # s, whatever the CA names: an order's challenges wait meanwhile
JOSE: Final = "application/jose+json"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to the CA. `accept`: the type of answer that is wanted, "" for any."""

    method: Literal["GET", "HEAD", "POST"]
    url: str
    body: bytes = b""
    accept: str = ""


@dataclass(frozen=True)
class Send:
    request: Request


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Show:
    challenges: tuple[Challenge, ...]


Step = Send | Pause | Show
Steps = Generator[Step, Response | None, T]


class Signer(Protocol):
    """The account's key; `pki.acme.AccountKey` is one."""

    @property
    def jwk(self) -> Mapping[str, str]: ...

    def sign(self, data: bytes) -> bytes:
        """Return an ES256 signature as JWS has it: r and s, 32 bytes each."""
        ...


@dataclass(frozen=True)
class ExternalAccount:
    """An account that the operator has at the CA already (RFC 8555 §7.3.4).

    `hmac` is the key as the CA shows it: base64url.
    """

    kid: str
    hmac: str

    def __repr__(self) -> str:
        return f"ExternalAccount({self.kid!r})"


def get_directory(url: str) -> Steps[Directory]:
    """Ask where the CA wants to be asked what."""
    response = yield from _send(Request(method="GET", url=url))
    return read(response, Directory, "directory", 200)


def renewal_info(directory: Directory, certificate_id: str) -> Steps[tuple[RenewalInfo, float]]:
    """Ask when a certificate is to be renewed; needs no account.

    Returns:
        The window, and the seconds after which to ask again (RFC 9773 §4.3: 6 h by default).
    """
    url = f"{directory.renewal_info.rstrip('/')}/{certificate_id}"
    response = yield from _send(Request(method="GET", url=url))
    info = read(response, RenewalInfo, "renewal window", 200)
    if info.suggested_window.end <= info.suggested_window.start:
        raise CaProblem("the CA's renewal window ends before it begins", is_refusal=False)
    return info, min(max(response.retry_after or 6 * 3600.0, 60.0), 86400.0)


class Conversation:
    """What is said to one CA in the name of one account. One request at a time."""

    def __init__(self, directory: Directory, key: Signer, account_url: str = "") -> None:
        """`account_url`: "" until `register` has returned it."""
        self._directory = directory
        self._key = key
        self._account_url = account_url
        self._nonce = ""

    def register(self, email: str, external: ExternalAccount | None) -> Steps[str]:
        """Make the account, or find the one that this key has; return its URL.

        The operator's wish for certificates is their agreement with the CA's terms, which every
        CA demands; the documentation says so.
        """
        if self._directory.meta.external_account_required and external is None:
            raise CaProblem(
                "the CA wants to know an account that you have there already",
                kind="externalAccountRequired",
                hint="get a key id and an HMAC key from the CA, and write them as acme.eab",
            )
        payload: dict[str, object] = {"termsOfServiceAgreed": True}
        if email:
            payload["contact"] = [f"mailto:{email}"]
        if external is not None:
            payload["externalAccountBinding"] = self._binding(external)
        self._account_url = ""
        response = yield from self._post(self._directory.new_account, payload)
        check(response, "account", 200, 201)
        url = response.headers.get("location", "")
        if not url.startswith("https://"):
            raise CaProblem("the CA names no address of the account", is_refusal=False)
        self._account_url = url
        return url

    def order(
        self,
        names: Sequence[str],
        csr: bytes,
        kinds: Sequence[ChallengeKind],
        *,
        replaces: str = "",
    ) -> Steps[str]:
        """Order one certificate, and return its chain (PEM, leaf first).

        Args:
            names: that it is for; `*.` begins a wildcard.
            csr: for exactly these names, DER.
            kinds: of challenges that we can answer, the preferred one first.
            replaces: the id of the certificate that this one renews (RFC 9773 §4.1), "" if none.

        Raises:
            CaProblem: it was refused, or took too long.
        """
        url, order = yield from self._new_order(names, replaces)
        pending: list[tuple[str, str, str]] = []  # authorization, challenge's URL, name
        shown: list[Challenge] = []
        for each in order.authorizations:
            authorization = yield from self._get(each, Authorization, "authorization")
            if authorization.status == "valid":
                continue
            challenge, answer_at = self._choose(authorization, names, kinds)
            shown.append(challenge)
            pending.append((each, answer_at, challenge.name))
        if shown:
            yield Show(tuple(shown))
        for _, answer_at, _ in pending:
            response = yield from self._post(answer_at, {})
            check(response, "challenge", 200)
        for each, _, name in pending:
            yield from self._until_valid(each, name)
        order = yield from self._until(url, Order, "order", lambda one: one.status != "pending")
        if order.status == "ready":
            response = yield from self._post(order.finalize, {"csr": encode64(csr)})
            check(response, "order", 200)
            order = yield from self._until(
                url, Order, "order", lambda one: one.status not in ("ready", "processing")
            )
        if order.status != "valid" or not order.certificate:
            words = order.error.words if order.error is not None else ""
            raise CaProblem(
                f"the CA says: {words}" if words else f"the CA's order is {order.status}",
                kind=order.error.kind if order.error is not None else "",
            )
        response = yield from self._post(
            order.certificate, None, accept="application/pem-certificate-chain"
        )
        return parse_chain(response)

    # --- The steps of an order -----------------------------------------------------------------

    def _new_order(self, names: Sequence[str], replaces: str) -> Steps[tuple[str, Order]]:
        payload: dict[str, object] = {
            "identifiers": [{"type": "dns", "value": name} for name in names]
        }
        if replaces and self._directory.renewal_info:
            payload["replaces"] = replaces
        response = yield from self._post(self._directory.new_order, payload)
        if "replaces" in payload and 400 <= response.status < 500:
            problem = problem_of(response)
            # The certificate before, or what it says of itself, is none of this CA's business any
            # more; the next one is.
            if problem is not None and problem.kind in ("alreadyReplaced", "malformed"):
                return (yield from self._new_order(names, ""))
        order = read(response, Order, "order", 201)
        url = response.headers.get("location", "")
        if not url.startswith("https://"):
            raise CaProblem("the CA names no address of the order", is_refusal=False)
        return url, order

    def _choose(
        self, authorization: Authorization, names: Sequence[str], kinds: Sequence[ChallengeKind]
    ) -> tuple[Challenge, str]:
        """Return what is to be shown for one name, and where to say that it is."""
        name = authorization.identifier.value
        if name not in {each.removeprefix("*.") for each in names}:
            raise CaProblem(f"the CA asks about {name[:253]!r}, which we didn't order")
        if authorization.status != "pending":
            words = authorization.problem.words if authorization.problem else authorization.status
            raise CaProblem(f"the CA says of {name}: {words}")
        for kind in kinds:
            if (offered := authorization.challenge(kind)) is not None:
                return (
                    Challenge(
                        name=name,
                        kind=kind,
                        token=offered.token,
                        key_authorization=f"{offered.token}.{thumbprint(self._key.jwk)}",
                    ),
                    offered.url,
                )
        there = ", ".join(one.type for one in authorization.challenges) or "nothing"
        raise CaProblem(
            f"the CA wants {name} proven by {there}, which can't be shown here",
            hint="acme.http_addr makes http-01 possible, acme.dns_hook dns-01",
        )

    def _until_valid(self, url: str, name: str) -> Steps[None]:
        found = yield from self._until(
            url, Authorization, "authorization", lambda one: one.status != "pending"
        )
        if found.status != "valid":
            problem = found.problem
            words = problem.words if problem is not None else found.status
            raise CaProblem(f"the CA says of {name}: {words}", kind=problem.kind if problem else "")

    def _until(self, url: str, type_: type[T], what: str, is_done: Callable[[T], bool]) -> Steps[T]:
        """Look again and again until it is done, with the pauses that the CA wants."""
        waited, pause = 0.0, FIRST_PAUSE
        while True:
            response = yield from self._post(url, None)
            found = read(response, type_, what, 200)
            if is_done(found):
                return found
            if waited >= PATIENCE:
                raise CaProblem(
                    f"the CA took over {PATIENCE:.0f} s for its {what}", is_refusal=False
                )
            asked = response.retry_after
            seconds = min(max(pause if asked is None else asked, FIRST_PAUSE), LONGEST_PAUSE)
            yield Pause(seconds)
            waited += seconds
            pause *= 1.5

    # --- Requests ------------------------------------------------------------------------------

    def _get(self, url: str, type_: type[T], what: str) -> Steps[T]:
        response = yield from self._post(url, None)
        return read(response, type_, what, 200)

    def _post(self, url: str, payload: object, *, accept: str = "") -> Steps[Response]:
        """Send a signed request; None as payload: a POST-as-GET (RFC 8555 §6.3)."""
        for _ in range(MAX_BAD_NONCES):
            if not self._nonce:
                yield from self._new_nonce()
            header: dict[str, object] = {"alg": "ES256", "nonce": self._nonce, "url": url}
            if self._account_url:
                header["kid"] = self._account_url
            else:
                header["jwk"] = self._key.jwk
            self._nonce = ""
            body = _jws(header, payload, self._key.sign)
            request = Request(method="POST", url=url, body=body, accept=accept)
            response = yield from _send(request)
            self._nonce = response.nonce
            problem = problem_of(response) if response.status == 400 else None
            if problem is None or problem.kind != "badNonce":
                return response
        raise CaProblem(
            f"the CA refused {MAX_BAD_NONCES} nonces in a row", kind="badNonce", is_refusal=False
        )

    def _new_nonce(self) -> Steps[None]:
        response = yield from _send(Request(method="HEAD", url=self._directory.new_nonce))
        check(response, "nonce", 200, 204)
        if not response.nonce:
            raise CaProblem("the CA's nonce is missing", is_refusal=False)
        self._nonce = response.nonce

    def _binding(self, external: ExternalAccount) -> Mapping[str, str]:
        key = decode64(external.hmac)
        header = {
            "alg": "HS256",
            "kid": external.kid,
            "url": self._directory.new_account,
        }
        signed = _jws(header, self._key.jwk, lambda data: digest(key, data, "sha256"))
        binding: Mapping[str, str] = msgspec.json.decode(signed)
        return binding


def _send(request: Request) -> Steps[Response]:
    response = yield Send(request)
    assert response is not None
    return response


# --- JOSE --------------------------------------------------------------------------------------


def encode64(data: bytes) -> str:
    """Return base64url without padding, RFC 7515 §2."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode64(text: str) -> bytes:
    """Read base64url, padded or not.

    Raises:
        ValueError: it is none.
    """
    bare = text.rstrip("=")
    return b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return a key's thumbprint, RFC 7638: SHA-256, base64url."""
    canonical = msgspec.json.encode(dict(sorted(jwk.items())))
    return encode64(sha256(canonical).digest())


def _jws(header: Mapping[str, object], payload: Any, sign: Callable[[bytes], bytes]) -> bytes:
    protected = encode64(msgspec.json.encode(header))
    encoded = "" if payload is None else encode64(msgspec.json.encode(payload))
    signature = sign(f"{protected}.{encoded}".encode())
    return msgspec.json.encode(
        {"protected": protected, "payload": encoded, "signature": encode64(signature)}
    )
