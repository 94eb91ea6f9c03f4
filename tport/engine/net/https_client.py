"""One request to somebody else over HTTPS, bounded in time and bytes: a CA, an identity provider.

Each is on a connection of its own: there are few, and none is on the way of a user's request to an
application.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple

import trio

import tport
from tport.engine.errors import ConnectionProblem
from tport.engine.net.dial import dial_problem
from tport.engine.net.tls import tls_problem

ANSWER_DEADLINE: Final = 30.0  # s for one request, names and TLS included
# s without any progress, or less where the deadline is. Below that: httpx2 closes its socket when its own time is up, but
# leaves it to the garbage collector when it is cancelled in a TLS handshake.
QUIET: Final = 12.0


class Answered(NamedTuple):
    """Names of `headers` are in lower case. `body`: as sent, a little over the limit if it is longer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpsClient:
    """Asks one kind of peer."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        who: str,
        why: str,
        limit: int,
        deadline: float = ANSWER_DEADLINE,
    ) -> None:
        """
        Args:
            who: what messages call the peer: "the CA".
            why: what the peer is told of us: "RFC 8555 client".
            limit: bytes of an answer; one that is longer is cut soon after.
            deadline: s for one request.
        """
        self._context = context
        self._who = who
        self._agent = f"tport/{tport.__version__} ({why})"
        self._limit = limit
        self._deadline = deadline

    async def ask(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes = b""
    ) -> Answered:
        """Return the answer, whatever its status; redirects are not followed.

        Raises:
            ConnectionProblem: there was none.
        """
        import httpx2  # 0.07 s that who asks nobody doesn't need

        sent = {
            "User-Agent": self._agent,
            "Accept-Encoding": "identity",  # what is bounded is what was sent
            "Accept-Language": "en",  # what it says is shown as it is
            **headers,
        }
        try:
            where = httpx2.URL(url).host
        except httpx2.InvalidURL as problem:
            raise ConnectionProblem(
                f"{self._who} names an address that is none: {_shown(str(problem))}"
            ) from None
        try:
            with trio.fail_after(self._deadline):
                async with (
                    httpx2.AsyncClient(
                        verify=self._context,
                        follow_redirects=False,
                        timeout=min(QUIET, 0.8 * self._deadline),
                    ) as client,
                    client.stream(method, url, content=content or None, headers=sent) as answer,
                ):
                    body = bytearray()
                    async for piece in answer.aiter_raw():
                        if len(body) <= self._limit:  # what is more is read until the deadline
                            body += piece
                    return Answered(
                        answer.status_code,
                        {name.lower(): value for name, value in answer.headers.items()},
                        bytes(body),
                    )
        except (trio.TooSlowError, httpx2.TimeoutException):
            raise ConnectionProblem(f"{self._who} at {where} does not answer in time") from None
        except (ImportError, ValueError) as problem:  # of HTTPS_PROXY: no such scheme, or SOCKS
            raise ConnectionProblem(
                f"{self._who} at {where} can't be reached by the proxy that HTTPS_PROXY names:"
                f" {problem}"
            ) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as problem:
            raise ConnectionProblem(
                f"{self._who} at {where} can't be reached: {_why(problem)}"
            ) from None


def _why(problem: BaseException) -> str:
    """Return in words what lies at the bottom of an error of httpx2, which often says nothing."""
    while not isinstance(problem, OSError):
        within = problem.__cause__ or next(iter(problem.args), None)
        if not isinstance(within, BaseException):
            break
        problem = within
    if isinstance(problem, ssl.SSLError):
        return tls_problem(problem)[0]
    if isinstance(problem, OSError):
        return dial_problem(problem)[0]
    return _shown(str(problem)) or type(problem).__name__


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:200]
