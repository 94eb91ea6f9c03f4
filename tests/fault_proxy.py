"""A network that can be made bad: it stands in front of a TCP port, and does to bytes what it is told.

    async with open_fault_proxy(stack.port, seed=1) as line:
        ...                       # dial line.port instead
        line.down.hold()          # nothing comes through to the client, nothing is told
        line.up.resume()
        line.reset()

`up` is from who dials to the port that it stands in front of, `down` the way back. What it does by
chance it does by its seed, so that a run can be had again.

A packet filter would need root. What that loses, TCP sends again; therefore bytes that are held
leave when the line is whole again, as they would there. What can't be had here: that a dial itself
gets no answer (it is accepted, and then nothing comes), and what the kernel makes of lost packets.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

READ: Final = 16 * 1024  # bytes
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing is a reset


class Way:
    """One direction. Its attributes count for all connections, from the next bytes on.

    Attributes:
        delay: seconds that each piece takes.
        jitter: seconds more, by chance, from 0 to this.
        rate: bytes a second, of each connection; None: as they come.
        flips: the chance that a piece has a bit turned over on its way, 0 to 1.
        flipped: how many were.
        carried: bytes so far.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._flowing = trio.Event()
        self._flowing.set()
        self.delay = 0.0
        self.jitter = 0.0
        self.rate: float | None = None
        self.flips = 0.0
        self.flipped = 0
        self.carried = 0

    def hold(self) -> None:
        """Let nothing through, and no end either, until `resume`."""
        if self._flowing.is_set():
            self._flowing = trio.Event()

    def resume(self) -> None:
        self._flowing.set()

    async def carry(self, data: bytes, to: trio.SocketStream) -> None:
        await self.wait_flowing()
        if self.delay or self.jitter:
            await trio.sleep(self.delay + self.jitter * self._chance.random())
        if self.rate is not None:
            await trio.sleep(len(data) / self.rate)
        await self.wait_flowing()
        if self.flips and self._chance.random() < self.flips:
            at = self._chance.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ (1 << self._chance.randrange(8))]) + data[at + 1 :]
            self.flipped += 1
        self.carried += len(data)
        await to.send_all(data)

    async def wait_flowing(self) -> None:
        while not self._flowing.is_set():
            await self._flowing.wait()


class FaultProxy:
    """See the module.

    Attributes:
        refuses: each new connection is reset at once, as a port is on which nothing listens.
        dials: connections made to it so far.
    """

    def __init__(self, port: int, seed: int = 0, *, host: str = "127.0.0.1") -> None:
        """`port`: of 127.0.0.1, in front of which it stands. `host`: where it listens."""
        chance = random.Random(seed)
        self.up, self.down = Way(chance), Way(chance)
        self.refuses = False
        self.dials = 0
        self.port = 0
        self._host = host
        self._target = port
        self._open: dict[trio.SocketStream, trio.SocketStream] = {}  # who dialled → the far side
        self._forgotten: set[trio.SocketStream] = set()

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def vanish(self) -> None:
        """Let nothing through either way: a host without power, a cable out."""
        self.up.hold()
        self.down.hold()

    def heal(self) -> None:
        self.up.resume()
        self.down.resume()

    def reset(self) -> None:
        """Reset every connection, on both sides."""
        for pair in list(self._open.items()):
            for stream in pair:
                _reset(stream)

    def forget(self) -> None:
        """Carry nothing more of what is open, as a NAT box does that has lost its table."""
        self._forgotten.update(self._open)

    def end(self, way: Way) -> None:
        """Half-close: tell the far end of a way that nothing more comes. The other way stays."""
        for near, far in self._open.items():
            (far if way is self.up else near).socket.shutdown(socket.SHUT_WR)

    async def run(self, *, task_status: trio.TaskStatus[int], port: int = 0) -> None:
        [listener] = await trio.open_tcp_listeners(port, host=self._host)
        self.port = listener.socket.getsockname()[1]
        task_status.started(self.port)
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, near: trio.SocketStream) -> None:
        self.dials += 1
        if self.refuses:
            _reset(near)
            return
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self._target)
        except OSError:
            _reset(near)
            return
        self._open[near] = far
        async with near, far:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._relay, near, near, far, self.up)
                    await self._relay(near, far, near, self.down)
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                for stream in (near, far):
                    _reset(stream)  # a broken side is told to the other as it was
            finally:
                del self._open[near]
                self._forgotten.discard(near)

    async def _relay(
        self, near: trio.SocketStream, source: trio.SocketStream, to: trio.SocketStream, way: Way
    ) -> None:
        while True:
            try:
                data = await source.receive_some(READ)
            except trio.BrokenResourceError:
                await self._pass(near, way)
                raise
            await self._pass(near, way)
            if not data:
                await to.send_eof()
                return
            await way.carry(bytes(data), to)

    async def _pass(self, near: trio.SocketStream, way: Way) -> None:
        """Wait until what happened on one side may be heard of on the other."""
        await way.wait_flowing()
        if near in self._forgotten:
            await trio.sleep_forever()


def _reset(stream: trio.SocketStream) -> None:
    if stream.socket.fileno() >= 0:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        stream.socket.close()


@asynccontextmanager
async def open_fault_proxy(
    port: int, seed: int = 0, *, host: str = "127.0.0.1", at: int = 0
) -> AsyncIterator[FaultProxy]:
    """Stand in front of this port. `at`: the port to listen on; 0: a free one."""
    line = FaultProxy(port, seed, host=host)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda *, task_status: line.run(task_status=task_status, port=at))
        yield line
        nursery.cancel_scope.cancel()
