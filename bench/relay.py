"""A line of some length, a program of its own: TCP to a port of this machine, each byte late.

    python -m bench.relay PORT DELAY      prints its own port; DELAY in ms, of one way

One connection has at most IN_FLIGHT bytes under way in each direction, which are acknowledged a
delay after they were delivered: as much as TCP itself would have under way by Linux's defaults. Hence
nothing that goes through a line passes more than IN_FLIGHT bytes a round trip, a plain copy neither.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Final

import trio

IN_FLIGHT: Final = 4 * 1024 * 1024  # bytes; the largest of net.ipv4.tcp_wmem
_PIECE: Final = 64 * 1024

Sent = tuple[float, bytes | bytearray]  # when it arrives, on trio's clock, and what
Acknowledged = tuple[float, int]  # when the sender knows, and of how many bytes


async def carry(
    source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream, delay: float
) -> None:
    """Move what `source` says to `sink`, `delay` seconds late, until it says no more."""
    # Neither holds more than IN_FLIGHT bytes: `read` waits for room before it takes any.
    wire_in, wire_out = trio.open_memory_channel[Sent](sys.maxsize)
    back_in, back_out = trio.open_memory_channel[Acknowledged](sys.maxsize)

    async def read() -> None:
        room = IN_FLIGHT
        async with wire_in:
            while True:
                while room < _PIECE:
                    known_at, size = await back_out.receive()
                    await trio.sleep_until(known_at)
                    room += size
                piece = await source.receive_some(_PIECE)
                if not piece:
                    return
                room -= len(piece)
                wire_in.send_nowait((trio.current_time() + delay, piece))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async for arrives_at, piece in wire_out:
            await trio.sleep_until(arrives_at)
            await sink.send_all(piece)
            back_in.send_nowait((trio.current_time() + delay, len(piece)))
    await sink.send_eof()


async def serve(client: trio.SocketStream, port: int, delay: float) -> None:
    try:
        async with client, await trio.open_tcp_stream("127.0.0.1", port) as server:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(carry, client, server, delay)
                nursery.start_soon(carry, server, client, delay)
    except* (trio.BrokenResourceError, OSError):
        pass  # one end is gone, and with it the line


async def _main(port: int, delay: float) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    sys.stdout.write(f"{listener.socket.getsockname()[1]}\n")
    sys.stdout.flush()
    await trio.serve_listeners(partial(serve, port=port, delay=delay), [listener])


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]), float(sys.argv[2]) / 1000)
