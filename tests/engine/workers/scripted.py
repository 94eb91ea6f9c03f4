"""A worker as a program that does what its first argument says: `python scripted.py serve 1`.

serve    serves until told to stop, and reads files anew; counts 10 requests each time it is asked
lost     the same, and hands over a connection for a proxy that nobody is; prints what becomes of it
beat     the same as serve, and gives a sign of life ten times a second
mute     the same as serve, and tells no figures
deaf     serves, and gives no sign of life, nor stops
crash    ends before it serves
leave    serves, and ends
fail     says why it can't serve
confused says what is no message
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable

from tport.engine.metrics.sample import one
from tport.engine.workers.messages import (
    MAX_MESSAGE,
    Alive,
    Arrived,
    Beginning,
    Failed,
    HandOver,
    Measure,
    Measured,
    Message,
    NewPair,
    Reload,
    Reloaded,
    Serving,
    Stop,
    pack,
    unpack,
)


def beat(say: Callable[[Message], None]) -> None:
    while True:
        time.sleep(0.1)
        say(Alive())


def main(how: str, number: int) -> int:
    if how == "crash":
        return 3
    begin = Beginning.unpack(sys.stdin.buffer.read())
    assert begin.number == number
    channel = socket.socket(fileno=begin.channel)

    def say(message: Message) -> None:
        channel.send(pack(message))

    if how == "fail":
        say(Failed("cert.pem: no such file", "make it", 2))
        return 2
    if how == "confused":
        channel.send(b"?")
        time.sleep(60)
    say(Alive())
    say(Serving())
    if how == "leave":
        return 4
    if how == "deaf":
        time.sleep(60)
    near, far = socket.socketpair()
    asked = 0
    if how == "beat":
        threading.Thread(target=beat, args=(say,), daemon=True).start()
    if how == "lost":
        message = HandOver("nobody", "192.0.2.9", b"hello")
        socket.send_fds(channel, [pack(message)], [far.fileno()])
    far.close()
    while True:
        data, numbers, _, _ = socket.recv_fds(channel, MAX_MESSAGE, 1)
        if not data:
            return 9  # the main process is gone
        match unpack(data):
            case Stop():
                return 0
            case Reload():
                say(Reloaded())
            case Measure(number=number) if how != "mute":
                asked += 1
                count = one("tport_requests_total", 10 * asked, "echo", "2xx")
                say(Measured(number, (count,), (), is_last=False))
                say(Measured(number, (), (), is_last=True))
            case NewPair(pair=pair):
                assert pair != begin.pair
            case Arrived(remote=remote, received=received):
                with socket.socket(fileno=numbers[0]) as stream:
                    stream.sendall(f"{remote} said {received.decode()}".encode())
                sys.stdout.write(f"worker {begin.number}: {near.recv(100).decode()}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
