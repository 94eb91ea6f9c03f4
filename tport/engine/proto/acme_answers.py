"""What an ACME server answers (RFC 8555 §7, RFC 9773), read strictly and within bounds. Sans-IO.

The CA is trusted to vouch, not to be sound: what it says may be broken, huge, or meant for a
terminal. Whatever isn't as the RFC has it is a CaProblem, in words for the operator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from tport.engine.errors import TportError

MAX_ANSWER: Final = 128 * 1024  # bytes; a directory has 1 KiB, a chain of four RSA certificates 8
MAX_CERTIFICATES: Final = 10  # in a chain
MAX_WORDS: Final = 600  # characters that are kept of what a CA says
MAX_RETRY_AFTER: Final = 7 * 86400.0  # s; Let's Encrypt's longest limit lasts a week
_ERROR: Final = "urn:ietf:params:acme:error:"
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_CERTIFICATE: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"
)

T = TypeVar("T")

Url = Annotated[str, Meta(pattern=r"\Ahttps://[!-~]+\Z", max_length=2048)]
UrlOrNone = Annotated[str, Meta(pattern=r"\A(?:https://[!-~]+)?\Z", max_length=2048)]
TokenOrNone = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]*\Z", max_length=256)]
Name = Annotated[str, Meta(max_length=255)]


class CaProblem(TportError):
    """The CA refused, or answered what can't be understood. The text is for the operator.

    Attributes:
        kind: of RFC 8555 §6.7 ("rateLimited", "dns", …); "" where the CA named none.
        retry_after: seconds that the CA wants us to wait; 0: it named none.
        is_refusal: it looked at what we want and said no: asked again at once, it says no again.
    """

    exit_code = 1
    status = 502

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        retry_after: float = 0.0,
        is_refusal: bool = True,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.retry_after = retry_after
        self.is_refusal = is_refusal

    @property
    def is_limit(self) -> bool:
        """Whether it has been asked too often, and looked at nothing."""
        return self.kind == "rateLimited"


@dataclass(frozen=True, kw_only=True)
class Response:
    """An answer as it came: names of `headers` in lower case, `at` our clock."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    at: datetime

    @property
    def nonce(self) -> str:
        """The next request's nonce; "" if there is none that can be one."""
        value = self.headers.get("replay-nonce", "")
        return value if _NONCE.fullmatch(value) else ""

    @property
    def retry_after(self) -> float | None:
        return parse_retry_after(self.headers.get("retry-after", ""), self.at)


# --- What answers hold -------------------------------------------------------------------------


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    external_account_required: bool = False


class Directory(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the CA wants to be asked what. `renewal_info` "": it has no opinion on renewal."""

    new_nonce: Url
    new_account: Url
    new_order: Url
    renewal_info: UrlOrNone = ""
    meta: _Meta = _Meta()


class Identifier(msgspec.Struct, frozen=True, kw_only=True):
    type: Annotated[str, Meta(max_length=32)]
    value: Name


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem document, RFC 7807 and RFC 8555 §6.7."""

    type: str = ""
    detail: str = ""
    identifier: Identifier | None = None
    subproblems: tuple[Problem, ...] = ()

    @property
    def kind(self) -> str:
        return printable(self.type.removeprefix(_ERROR))[:64]

    @property
    def words(self) -> str:
        """What the CA says, as one line that is safe to show."""
        parts = [self._own_words, *(sub._own_words for sub in self.subproblems[:10])]
        return printable("; ".join(parts))[:MAX_WORDS]

    @property
    def _own_words(self) -> str:
        name = f"{self.identifier.value}: " if self.identifier is not None else ""
        kind = f" ({self.kind})" if self.kind and self.detail else self.kind
        return f"{name}{self.detail.strip()}{kind}"


Status = Literal[
    "pending", "processing", "ready", "valid", "invalid", "deactivated", "expired", "revoked"
]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    status: Status
    authorizations: Annotated[tuple[Url, ...], Meta(max_length=100)]
    finalize: Url
    certificate: UrlOrNone = ""
    error: Problem | None = None


class ChallengeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A challenge. One of a kind that we don't know may lack everything else."""

    type: Annotated[str, Meta(max_length=64)]
    url: UrlOrNone = ""
    token: TokenOrNone = ""
    status: Status = "pending"
    error: Problem | None = None


class Authorization(msgspec.Struct, frozen=True, kw_only=True):
    status: Status
    identifier: Identifier
    challenges: Annotated[tuple[ChallengeAnswer, ...], Meta(max_length=20)] = ()

    def challenge(self, kind: str) -> ChallengeAnswer | None:
        """Return the challenge of this kind, if the CA offers one that can be answered."""
        for one in self.challenges:
            if one.type == kind and one.url and one.token:
                return one
        return None

    @property
    def problem(self) -> Problem | None:
        return next((one.error for one in self.challenges if one.error is not None), None)


_Moment = Annotated[datetime, Meta(tz=True)]  # RFC 9773 §4.2: an RFC 3339 timestamp


class _Window(msgspec.Struct, frozen=True, kw_only=True):
    start: _Moment
    end: _Moment


class RenewalInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """When the CA suggests to renew a certificate, RFC 9773 §4.2."""

    suggested_window: _Window


# --- Reading them ------------------------------------------------------------------------------


def read(response: Response, type_: type[T], what: str, *statuses: int) -> T:
    """Return what an answer holds.

    Args:
        what: was asked for, in words.
        statuses: that mean success.

    Raises:
        CaProblem: it is a refusal, or no such thing.
    """
    check(response, what, *statuses)
    try:
        return msgspec.json.decode(response.body, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        problem = printable(str(fault))[:200]
        raise CaProblem(f"the CA's {what} can't be read: {problem}", is_refusal=False) from None


def check(response: Response, what: str, *statuses: int) -> None:
    """Raise the CaProblem that an answer is, unless its status is one of these."""
    if len(response.body) > MAX_ANSWER:
        raise CaProblem(f"the CA's {what} has over {MAX_ANSWER} bytes", is_refusal=False)
    if response.status in statuses:
        return
    if 300 <= response.status < 400:
        to = printable(response.headers.get("location", ""))[:200]
        raise CaProblem(
            f"the CA sends us elsewhere for its {what}: {to or 'nowhere'}",
            is_refusal=False,
            hint="write the address of its directory as acme.uri as it is, without a redirect",
        )
    problem = problem_of(response)
    words = problem.words if problem is not None else ""
    raise CaProblem(
        f"the CA says: {words}" if words else f"the CA answered {what} with {response.status}",
        kind=(problem.kind if problem is not None else "") or _kind_of(response.status),
        retry_after=response.retry_after or 0.0,
        is_refusal=400 <= response.status < 500,
    )


def _kind_of(status: int) -> str:
    """Return what an answer without a problem document is; RFC 6585 §4."""
    return "rateLimited" if status == 429 else ""


def problem_of(response: Response) -> Problem | None:
    """Return the problem document in an answer; None: there is none that can be read."""
    try:
        return msgspec.json.decode(response.body, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Return the seconds that Retry-After asks for (RFC 9110 §10.2.3), 0 to MAX_RETRY_AFTER."""
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(text[:64])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    try:
        seconds = (date - now).total_seconds()
    except OverflowError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def parse_chain(response: Response) -> str:
    """Return the certificates of a chain (PEM, leaf first), without what stands between them.

    Raises:
        CaProblem: there are none, or too many.
    """
    check(response, "certificate", 200)
    found: list[str] = _CERTIFICATE.findall(response.body.decode("ascii", "replace"))
    if not 1 <= len(found) <= MAX_CERTIFICATES:
        raise CaProblem(
            f"the CA's chain has {len(found)} certificates, expected 1 to {MAX_CERTIFICATES}",
            is_refusal=False,
        )
    return "".join(f"{text}\n" for text in found)


def printable(text: str) -> str:
    """Return text of others as one line that does nothing to a terminal or a page's layout."""
    return "".join(c if c.isprintable() else " " for c in text)
