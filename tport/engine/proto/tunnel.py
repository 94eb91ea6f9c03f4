"""What proxy and agent say inside a tunnel: length-prefixed msgpack messages. Sans-IO.

The proxy opens every stream. The first is for control and stays open; each further one is one
request. On a request's stream:

    proxy → agent   RequestHead, the body as it is, FIN
    agent → proxy   Accepted when the body is long (see SPARE) or the application slow,
                    ResponseHead (1xx, any number), then a last ResponseHead, the body, FIN;
                    or NoAnswer, FIN

A reset instead of FIN means: cut short. No message carries an address to dial: an agent maps
the application's name to its own URI (AG-06).

Versions beside one another. What a minor version may change here, so that the ones next to it go on:

- a field more, with a default, at the end where a message is `array_like`: who doesn't know it reads past it;
- a message, or a value of a Literal, more: sent only to who names it in the `features` of its hello;
- what a message means: by a protocol more (HIGHEST), while LOWEST stays for one minor version; then it may
  follow. The proxy says which it speaks, the agent chooses the highest that both do (`agreed`).

`tests/test_neighbours.py` holds each message to what the version before wrote and read.
"""

from __future__ import annotations

from struct import Struct
from typing import Annotated, Final, Literal, NamedTuple, TypeVar

import msgspec

from tport.engine.defaults import MAX_OFFERS
from tport.engine.errors import RemoteProtocolError
from tport.engine.types.app import App

LOWEST: Final = 2  # tunnel protocols that this version speaks; 0.1 spoke 2 alone, and compares it
HIGHEST: Final = 2
MAX_MESSAGE: Final = 1 << 20  # bytes; a head is ≤ 64 KiB, an agent's 1,000 offers ≤ 1 MiB

# Bytes of one about a request: a head is ≤ 64 KiB, a credential ≤ 128 KiB. Each stream may hold as much.
MAX_REQUEST_MESSAGE: Final = 256 * 1024
# Bytes of one about an answer: its head is ≤ 64 KiB where it comes from, and grows by what its agent
# makes public in it. Each request that runs may hold as much.
MAX_ANSWER_MESSAGE: Final = 256 * 1024

T = TypeVar("T")

_LENGTH = Struct("!I")

# Bytes of a body that may be sent before the agent says Accepted. Whoever sent no more than this
# still has it, and can send the whole request again, elsewhere, when the application could not
# be dialled; a longer body waits for that word, one round trip.
SPARE: Final = 32 * 1024

Hop = Literal["proxy", "agent", "app"]
NoAnswerKind = Literal[
    "unknown-session",  # send it again with the credential; nothing was read or done
    "unknown-app",
    "denied",
    "busy",  # as many requests as a tunnel carries are on their way through it
    "session-busy",  # of one session alone: said by the proxy, and by no agent
    "stale",  # the agent lost auth and can't judge
    "unreachable",  # the application could not be dialled: nothing reached it
    "broken",  # the application answered nonsense or hung up before a whole head
    "timeout",
    "refused",  # the request can't be sent to this application (bad path, too large)
]


class Spoken(NamedTuple):
    """The tunnel protocols that one side speaks, from the lowest to the highest."""

    lowest: int
    highest: int

    def __str__(self) -> str:
        alone = self.highest <= self.lowest
        return str(self.lowest) if alone else f"{self.lowest} to {self.highest}"


SPOKEN: Final = Spoken(LOWEST, HIGHEST)


def agreed(ours: Spoken, theirs: Spoken) -> int | None:
    """Return the highest protocol that both speak; None: there is none."""
    chosen = min(ours.highest, theirs.highest)
    return chosen if chosen >= max(ours.lowest, theirs.lowest) else None


def nothing_agreed(ours: Spoken, theirs: Spoken, *, us: str, them: str) -> str:
    """Say that two have no protocol in common, and which of them is to be upgraded.

    Args:
        us, them: the two in words, with their versions.
    """
    older = us if ours.highest < theirs.lowest else them
    return (
        f"{them} speaks tunnel protocol {theirs}, {us} {ours}: they are more than one minor version"
        f" apart; upgrade {older}"
    )


# Bounded here, so that more are refused before they are read: a message has room for 200,000.
OfferedApps = Annotated[tuple[App, ...], msgspec.Meta(max_length=MAX_OFFERS)]
# Name as the agent's file has it, and why it can't be.
Faulty = Annotated[tuple[tuple[str, str], ...], msgspec.Meta(max_length=MAX_OFFERS)]
MAX_REASON: Final = 300  # characters of such a reason: a thousand are a third of a message

# The id of a proxy goes into an agent's next ClientHello: one that can't is none.
ProxyId = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
ProxyIds = Annotated[tuple[ProxyId, ...], msgspec.Meta(max_length=1000)]

# --- Control stream ------------------------------------------------------------------------


class ProxyHello(msgspec.Struct, frozen=True, kw_only=True, tag="proxy-hello"):
    """The proxy's first words.

    Attributes:
        protocol: the lowest that it speaks; 0.1 takes it for the only one.
        proxies: the ids of all live proxies, this one among them.
        highest: protocol that it speaks; 0: `protocol` alone.
    """

    protocol: int
    version: str
    proxy_id: ProxyId
    cluster: str
    proxies: ProxyIds
    features: tuple[str, ...] = ()
    highest: int = 0


class AgentHello(msgspec.Struct, frozen=True, kw_only=True, tag="agent-hello"):
    """The agent's answer, with what it offers, as in Offers.

    `protocol` is the one it chose; where there is none in common, one that the proxy refuses.
    """

    protocol: int
    version: str
    agent_id: str
    hostname: str
    apps: OfferedApps
    features: tuple[str, ...] = ()
    faulty: Faulty = ()


class Offers(msgspec.Struct, frozen=True, kw_only=True, tag="offers"):
    """Agent: this is what I offer from now on.

    Attributes:
        apps: their `labels` are the current ones.
        faulty: what can't be offered, to be shown to who administers the cluster.
    """

    apps: OfferedApps
    faulty: Faulty = ()


class Verdicts(msgspec.Struct, frozen=True, kw_only=True, tag="verdicts"):
    """Proxy: what became of the offers; app name → why it was refused."""

    refused: dict[str, str]
    hosts: dict[str, str]  # app name → host:port at which people reach it


class Proxies(msgspec.Struct, frozen=True, kw_only=True, tag="proxies"):
    """Proxy: these processes are alive; hold a tunnel to each."""

    proxies: ProxyIds


Control = ProxyHello | AgentHello | Offers | Verdicts | Proxies


# --- Request streams -------------------------------------------------------------------------

# Of a body, as many digits as a head may have; who sends another is not understood.
Length = Annotated[int, msgspec.Meta(ge=0, lt=10**15)]


class RequestHead(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, array_like=True, tag="request"
):
    """One request.

    Attributes:
        session: id of the app session; `credential` is its JWS, or "" when the agent has it.
        headers: as lines, see `proto.sieve`; hop-by-hop and reserved ones and our cookies are gone
            already.
        length: of the body in bytes; None: unknown until its end.
        upgrade: b"websocket" when the client asks to leave HTTP.
        remote: the client's IP address.
        public: host[:port] as the browser sees it, the port only when it isn't 443.
    """

    app: str
    session: str
    credential: str
    method: bytes
    target: bytes
    headers: bytes
    length: Length | None
    upgrade: bytes
    remote: str
    public: str
    request_id: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="accepted"):
    """The application's connection stands: send the rest of the body.

    Said again while the application takes its time: the agent is alive, and waits.
    """


class ResponseHead(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, array_like=True, tag="response"
):
    """The head of an answer; 1xx ones come before the last. `headers`, `length` as in RequestHead."""

    status: int
    reason: bytes
    headers: bytes
    length: Length | None


class NoAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="no-answer"):
    """Why there is no answer.

    Attributes:
        cause: for people; the beginning of a sentence, or one without its full stop.
        since: RFC 3339, when this began, or "".
        advice: what to do, in sentences; "": nothing better than what fits the kind.
        waited: seconds that the application was given.
    """

    kind: NoAnswerKind
    hop: Hop
    cause: str
    since: str = ""
    advice: str = ""
    waited: float = 0.0


Answer = Accepted | ResponseHead | NoAnswer

_encoder = msgspec.msgpack.Encoder()
control_decoder: Final[msgspec.msgpack.Decoder[Control]] = msgspec.msgpack.Decoder(Control)
request_decoder: Final[msgspec.msgpack.Decoder[RequestHead]] = msgspec.msgpack.Decoder(RequestHead)
answer_decoder: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


def pack(message: Control | RequestHead | Answer) -> bytes:
    """Return the message's bytes, length first."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class Inbox:
    """Cuts messages from the front of a stream's bytes, wherever the network cut those."""

    def __init__(self, data: bytes = b"", *, limit: int = MAX_MESSAGE) -> None:
        """
        Args:
            data: what has come by now.
            limit: bytes of one message.
        """
        self._limit = limit
        self._buffer: bytes | bytearray = data  # as it came, until there is more

    def feed(self, data: bytes | bytearray) -> None:
        if not self._buffer:
            self._buffer = data
            return
        if not isinstance(self._buffer, bytearray):
            self._buffer = bytearray(self._buffer)
        self._buffer += data

    def take(self, decoder: msgspec.msgpack.Decoder[T]) -> T | None:
        """Return the next message, None while some of it is missing.

        Raises:
            RemoteProtocolError: too long, or not what `decoder` reads.
        """
        buffer = self._buffer
        if len(buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(buffer)
        if length > self._limit:
            raise RemoteProtocolError(
                f"a message of {length} bytes, at most {self._limit} are allowed"
            )
        end = _LENGTH.size + length
        if len(buffer) < end:
            return None
        body = buffer[_LENGTH.size : end]
        if isinstance(buffer, bytearray):
            del buffer[:end]
        else:
            self._buffer = buffer[end:]
        try:
            return decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(f"a message in the tunnel is malformed: {error}") from None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it, not even the start of a message."""
        return not self._buffer

    def rest(self) -> bytes:
        """Return what follows the messages taken: the start of a body. Empties the box."""
        data, self._buffer = bytes(self._buffer), b""
        return data
