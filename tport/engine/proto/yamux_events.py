"""What a yamux peer's bytes mean: the events that `yamux.Connection.receive_data` returns."""

from __future__ import annotations

from msgspec import Struct


class StreamOpened(Struct, frozen=True, gc=False):
    """The peer opened a stream."""

    stream_id: int


class DataReceived(Struct, frozen=True, gc=False):
    """A piece of a stream, as it came: frames are not put together again."""

    stream_id: int
    data: bytes


class StreamEnded(Struct, frozen=True, gc=False):
    """The peer sends no more on this stream. We still may."""

    stream_id: int


class StreamReset(Struct, frozen=True, gc=False):
    """The peer cut this stream. If it had ended before, what it sent is whole nevertheless."""

    stream_id: int


class CreditReceived(Struct, frozen=True, gc=False):
    """The peer takes more on this stream."""

    stream_id: int


class PongReceived(Struct, frozen=True, gc=False):
    value: int


class GoneAway(Struct, frozen=True, gc=False):
    """The peer takes no new streams; unless code is yamux.NORMAL it gives up the whole connection."""

    code: int


Event = (
    StreamOpened
    | DataReceived
    | StreamEnded
    | StreamReset
    | CreditReceived
    | PongReceived
    | GoneAway
)
