"""What the main process and a worker tell each other: values, and their bytes. Pure.

    main process                                        worker
    Beginning, on its standard input      ──►
                                          ◄──  Serving, once it does; Failed, if it can't
                                          ◄──  Alive, every few seconds
    NewPair, before the certificate ends  ──►
    Reload                                ──►  Reloaded
    Arrived: a connection that is its     ──►
                                          ◄──  Ask, Relay, HandOver: a connection for others
    Measure                               ──►
                                          ◄──  Measured, as many as it takes
    Stop                                  ──►  drains, and ends

All but the first travel on a socket of theirs alone (`channel`). Connections come with the message
that says what they are for.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tport.engine.config.model import Config
from tport.engine.errors import RemoteProtocolError
from tport.engine.metrics.sample import Sample, Trouble
from tport.engine.pki.keys import KeyPair
from tport.engine.types.setting import Setting

MAX_MESSAGE: Final = 64 * 1024  # bytes; a ClientHello, the largest part of any, is under 16 KiB


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """All that a worker begins with.

    Attributes:
        number: which worker it is, from 1, of `workers`.
        pair: its host certificate.
        shown: the settings, for the page that shows them.
        tickets: seals TLS tickets, alike for all workers.
        channel, listener, http, share: descriptors that it inherits; `http` may be None.
    """

    number: int
    workers: int
    proxy_id: str
    config: Config
    shown: tuple[Setting, ...]
    pair: KeyPair
    tickets: bytes = field(repr=False)
    channel: int
    listener: int
    http: int | None
    share: int

    def pack(self) -> bytes:
        """Return what `unpack` reads: a process's own child is told it as `multiprocessing` does."""
        return pickle.dumps(self)

    @staticmethod
    def unpack(data: bytes) -> Beginning:
        """Read it. `data` comes from whoever started this process, who may do anything anyway."""
        begin = pickle.loads(data)  # noqa: S301 - see above
        assert isinstance(begin, Beginning)
        return begin


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Drain, and end."""


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    """Read files anew."""


class NewPair(msgspec.Struct, frozen=True, tag="pair"):
    """The next host certificate."""

    pair: KeyPair


class Arrived(msgspec.Struct, frozen=True, tag="arrived"):
    """With a connection: a tunnel that another worker took, or that was handed to nobody else.

    Attributes:
        received: what came of it already.
    """

    remote: str
    received: bytes


class Measure(msgspec.Struct, frozen=True, tag="measure"):
    """Tell your figures, and this number with them."""

    number: int


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """Some of a worker's figures.

    Attributes:
        number: of the `Measure` that asked.
        is_last: there are no more.
    """

    number: int
    samples: tuple[Sample, ...]
    troubles: tuple[Trouble, ...]
    is_last: bool


class Serving(msgspec.Struct, frozen=True, tag="serving"):
    """It serves."""


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """Its loop turns."""


class Reloaded(msgspec.Struct, frozen=True, tag="reloaded"):
    """What `Reload` asked for is done."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It ends by an error that is meant: as TportError has it."""

    message: str
    hint: str
    exit_status: int


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """With a connection: calls of AuthAPI (`api.wire`) by this worker."""


class Relay(msgspec.Struct, frozen=True, tag="relay"):
    """With a connection: a client's, for auth, from its ClientHello on. As Arrived."""

    remote: str
    received: bytes


class HandOver(msgspec.Struct, frozen=True, tag="hand-over"):
    """With a connection: a tunnel for the proxy with this id. As Arrived."""

    proxy_id: str
    remote: str
    received: bytes


Message = (
    Stop
    | Reload
    | NewPair
    | Arrived
    | Measure
    | Measured
    | Serving
    | Alive
    | Reloaded
    | Failed
    | Ask
    | Relay
    | HandOver
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def pack(message: Message) -> bytes:
    return _encoder.encode(message)


def unpack(data: bytes) -> Message:
    """Read one message.

    Raises:
        RemoteProtocolError: it is none.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise RemoteProtocolError(f"no message between our processes: {problem}") from None
