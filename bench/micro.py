"""make bench-micro: what each function on the way of a request costs, in microseconds a call.

python -m bench.micro [WORD]      only those with WORD in their name

The bytes are those of one request of a browser: 20 header lines, our cookie among three, and an
answer of 1 KiB. A figure is the least of several tries: what disturbs only adds.
"""

from __future__ import annotations

import argparse
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import trustme

from bench.report import aligned, number
from bench.rows import BROWSER
from tests.certs import Cluster, der
from tport.engine.access.rbac import check_app_access
from tport.engine.agent.rewrite import Rewriter
from tport.engine.pki.identity import identity_of
from tport.engine.proto import tunnel, yamux
from tport.engine.proto.cookies import find_cookie, strip_cookies
from tport.engine.proto.fields import forwardable
from tport.engine.proto.framing import NO_BODY, of_length
from tport.engine.proto.head import (
    find_head_end,
    judge_request_head,
    parse_request_head,
    parse_response_head,
)
from tport.engine.proto.head_writer import write_request_head, write_response_head
from tport.engine.proto.sieve import write_lines
from tport.engine.proxy.for_agent import for_agent
from tport.engine.types.app import App, Header, Rewrite
from tport.engine.types.identity import IdentityKind
from tport.engine.types.role import PRESETS
from tport.engine.types.session import SessionCredential

TRIES: Final = 5
TRY: Final = 0.02  # s

Work = Callable[[], object]

SID: Final = "4f1f0a52b7c94c0f9d6b2f4bba5d7a66" * 2
COOKIE: Final = b"__Host-tport_app_1a2b3c4d"
COOKIES: Final = b"prefs=dark; " + COOKIE + b"=" + b"s" * 43 + b"; seen=12"
HEAD: Final = b"\r\n".join(
    [
        b"GET /dashboards?orgId=1 HTTP/1.1",
        b"Host: grafana.example.com:3080",
        *(line.encode() for line in BROWSER),
        b"Cookie: " + COOKIES,
        b"\r\n",
    ]
)
ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Wed, 25 Nov 2026 22:00:00 GMT\r\n"
    b'Content-Type: text/html\r\nContent-Length: 1024\r\nETag: "a-1"\r\n'
    b"Set-Cookie: a=b; Path=/; HttpOnly\r\nCache-Control: no-store\r\n\r\n"
)
PAGE: Final = b"x" * 1024
_APP: Final = App(
    name="grafana",
    uri="http://127.0.0.1:3000",
    rewrite=Rewrite(
        headers=(
            Header("X-User", "{{internal.username}}"),
            Header("X-Groups", "{{external.groups}}"),
            Header("Authorization", "Bearer {{internal.jwt}}"),
        )
    ),
)  # fmt: skip


def microseconds(work: Work, *, tries: int = TRIES, least: float = TRY) -> float:
    """Return what a call takes: the least of some tries, each of `least` seconds or more."""
    count = 1
    while (taken := _taken(work, count)) < least:
        count *= 2
    return min(taken, *(_taken(work, count) for _ in range(tries - 1))) / count * 1e6


def _taken(work: Work, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        work()
    return time.perf_counter() - start


def _rewriting() -> tuple[Work, Work]:
    now = datetime.now(UTC)
    session = SessionCredential(
        sid=SID, user="ann", user_key="k" * 32, roles=("access",),
        traits={"groups": ("people", "bench")}, app="grafana", host="grafana.example.com",
        cluster="example.com", epoch=1, issued=now, expires=now + timedelta(minutes=5),
        session_expires=now + timedelta(hours=1), jwt="e" * 600,
    )  # fmt: skip
    rewriter = Rewriter(_APP, hostname="machine")
    asked = for_agent(parse_request_head(HEAD))
    head = parse_response_head(ANSWER, request_method=b"GET")
    answered = forwardable(head.headers, head.connection_tokens, odd_names=True)
    public = "grafana.example.com:3080"
    return (
        lambda: rewriter.request(asked, session, remote="192.0.2.7", public=public),
        lambda: rewriter.response(200, answered, public=public),
    )


def _in_tunnel() -> tuple[Work, Work]:
    request = parse_request_head(HEAD)
    message = tunnel.RequestHead(
        app="grafana", session=SID, credential="", method=b"GET", target=request.target,
        headers=for_agent(request), length=0, upgrade=b"", remote="192.0.2.7",
        public="grafana.example.com:3080", request_id="0" * 16,
    )  # fmt: skip
    packed = tunnel.pack(message)

    def taken() -> object:
        inbox = tunnel.Inbox()
        inbox.feed(packed)
        return inbox.take(tunnel.request_decoder)

    return lambda: tunnel.pack(message), taken


def _identity() -> Work:
    cluster = Cluster()
    shown = der(cluster.pair("agent"))
    trusted, now = cluster.authorities, cluster.now
    kinds: tuple[IdentityKind, ...] = ("agent",)
    return lambda: identity_of(shown, authorities=trusted, expected_kinds=kinds, now=now)


def _stream() -> Work:
    """Return: open a stream, send 1 KiB each way, end it; both sides of the tunnel."""
    proxy, agent = yamux.Connection(client=True), yamux.Connection(client=False)

    def work() -> None:
        stream = proxy.open_stream()
        proxy.send(stream, PAGE)
        proxy.end(stream)
        agent.receive_data(proxy.data_to_send())
        agent.send(stream, PAGE)
        agent.end(stream)
        for side in (agent, proxy):
            if (window := side.receive_window(stream)) is not None:
                window.release()
        proxy.receive_data(agent.data_to_send())
        proxy.close(stream)
        agent.close(stream)
        agent.receive_data(proxy.data_to_send())

    return work


def _record() -> Work:
    """Return: encrypt 1 KiB, and decrypt it at the other end."""
    made = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("a.test").configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.configure_trust(client_context)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname="a.test")
    server = server_context.wrap_bio(up, down, server_side=True)
    pending = [client, server]
    while pending:
        side = pending.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pending.append(side)

    def work() -> bytes:
        client.write(PAGE)
        return server.read(16384)

    return work


def _answer_head() -> Work:
    answer = parse_response_head(ANSWER, request_method=b"GET")
    headers, framing = (
        write_lines(forwardable(answer.headers, frozenset(), odd_names=True)),
        of_length(1024),
    )
    return lambda: write_response_head(200, b"OK", headers, framing, keep_alive=True)


def _request_head() -> Work:
    request = parse_request_head(HEAD)
    headers = for_agent(request)
    return lambda: write_request_head(b"GET", request.target, headers, NO_BODY)


def cases() -> Mapping[str, Work]:
    """Return every function by what it does, ready to be called again and again."""
    rewritten, answered = _rewriting()
    packed, unpacked = _in_tunnel()
    request = parse_request_head(HEAD)
    labels = {"env": "prod", "team": "web"}
    return {
        "find the end of a request's head": lambda: find_head_end(HEAD),
        "parse a request's head, its lines known": lambda: parse_request_head(HEAD),
        "the same the long way, by h11": lambda: judge_request_head(HEAD),
        "parse an answer's head": lambda: parse_response_head(ANSWER, request_method=b"GET"),
        "find our cookie": lambda: find_cookie([COOKIES], COOKIE),
        "take our cookies out": lambda: strip_cookies(COOKIES),
        "who a machine is, by its certificate": _identity(),
        "judge roles against labels": lambda: check_app_access(PRESETS, ["access"], {}, labels),
        "pack a request's head for the tunnel": packed,
        "unpack it": unpacked,
        "a stream of yamux: 1 KiB each way, both sides": _stream(),
        "a TLS record of 1 KiB: encrypt and decrypt": _record(),
        "rewrite a request's headers": rewritten,
        "rewrite an answer's headers": answered,
        "what of a head is sent on": lambda: for_agent(request),
        "write a request's head": _request_head(),
        "write an answer's head": _answer_head(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.micro")
    parser.add_argument("word", nargs="?", default="", metavar="WORD")
    word = parser.parse_args().word
    found = {name: work for name, work in cases().items() if word in name}
    told = [["", "us"], *([name, number(microseconds(work))] for name, work in found.items())]
    sys.stdout.write("\n".join(aligned(told)) + "\n")


if __name__ == "__main__":
    main()
