"""Somebody at work: one request after the other at an even pace, each answered and timed, or counted as failed."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from typing import Final
from urllib.parse import urlsplit

from tests.e2e.client import Client

ADDRESS: Final = "127.0.0.8"  # of their own, as is everybody's who shares no address with attackers
PACE: Final = 0.02  # s from one request to the next
KEPT: Final = 10  # requests on one connection, then a new one is opened
TIMEOUT: Final = 30.0  # s for one request


class Paced:
    """Asks for `url` as `person` while the block runs.

    Attributes:
        seconds: how long each answer took, from when the request was due to its last byte.
        failures: what became of the requests that were not answered with 200.
    """

    def __init__(self, person: Client, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._target, self._cookie = parts.path or "/", person.cookie_header(url)
        self._context = person.context
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.seconds: list[float] = []
        self.failures: list[str] = []

    def __enter__(self) -> Paced:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def p99(self) -> float:
        """Seconds that 99 of 100 requests were answered within."""
        ordered = sorted(self.seconds)
        return ordered[int(0.99 * len(ordered))]

    @property
    def success(self) -> float:
        """Per cent of the requests that were answered."""
        return 100 * len(self.seconds) / (len(self.seconds) + len(self.failures))

    def _work(self) -> None:
        connection = self._dial()
        due = time.monotonic()
        number = 0
        while not self._over.is_set():
            number += 1
            if number % KEPT == 0:
                connection.close()
                connection = self._dial()
            try:
                connection.request("GET", self._target, headers={"Cookie": self._cookie})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append(f"{answer.status}")
                else:
                    self.seconds.append(time.monotonic() - due)
            except (OSError, http.client.HTTPException) as problem:
                self.failures.append(repr(problem))
                connection.close()
                connection = self._dial()
            due = max(due + PACE, time.monotonic() - 1.0)
            self._over.wait(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic())
        connection.close()

    def _dial(self) -> http.client.HTTPSConnection:
        return _From(self._host, self._port, self._context)


class _From(http.client.HTTPSConnection):
    """HTTPS to 127.0.0.1 from ADDRESS, with the URL's host as SNI and the name to verify."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port, context=context, timeout=TIMEOUT)
        self.context = context

    def connect(self) -> None:
        raw = socket.create_connection(("127.0.0.1", self.port), TIMEOUT, (ADDRESS, 0))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self.context.wrap_socket(raw, server_hostname=self.host)
