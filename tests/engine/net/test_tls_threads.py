"""TLS in several threads at once: what is decrypted stays with whom it was sent to."""

from __future__ import annotations

import sys
from threading import Thread

from trio.testing import memory_stream_pair

from tests.engine.net.test_tls_stream import CLIENT, SERVER
from tport.engine.defaults import READ_SIZE
from tport.engine.net.tls_stream import TlsStream


def test_who_reads_in_threads_of_their_own_gets_their_own_bytes_alone() -> None:
    """TUN-01. All decrypt into the same room, one after the other."""
    foreign: list[bytes] = []

    def read(letter: bytes) -> None:
        transport = memory_stream_pair()[0]  # unused
        ends = (
            TlsStream(transport, CLIENT, server_side=False),
            TlsStream(transport, SERVER, server_side=True),
        )
        while False in [end._step() for end in ends]:
            for end, other in (ends, ends[::-1]):
                other._incoming.write(end._outgoing.read())
        sender, receiver = ends
        for number in range(100):
            left = 1 + number * 7919 % 90_000
            sender._write(letter * left)
            receiver._incoming.write(sender._outgoing.read())
            while left:
                data = receiver._read(READ_SIZE)
                left -= len(data)
                if not data or data.strip(letter):
                    foreign.append(letter)
                    return

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [Thread(target=read, args=(bytes([letter]),)) for letter in b"abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)

    assert foreign == []
