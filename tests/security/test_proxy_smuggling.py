"""HTTP-01 to HTTP-11 beside other servers: nobody in a chain thinks that a message ends elsewhere.

What an application was asked is held against `plain_http`, or, where a more lenient server reads
the client's bytes first, against what that server says it passed on.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.security import chains
from tests.security.chains import QUIET, Chain, converse, served
from tests.security.doubtful_answers import ANSWERS, EVIL, answer
from tests.security.plain_http import Request, plain_answers, plain_requests, read_request
from tests.security.smuggling_inputs import INPUTS, Pieces, Place, mangled

pytestmark = pytest.mark.e2e

AT_ONCE = 8  # conversations
MANGLED = 5_000
PATIENCE = 60.0  # s for an answer, on a busy machine

Told = dict[int, list[Request]]  # requests by the number of their input; -1: of none


def input_of(target: bytes) -> int:
    """Return the number of the input that asks for this target; -1: none does."""
    number = re.search(rb"/(\d+)(?:[/?]|\Z)", target)
    return int(number[1]) if number else -1


def by_input(requests: Sequence[Request]) -> Told:
    told: Told = defaultdict(list)
    for request in requests:
        told[input_of(request.target)].append(request)
    return told


def sent_to(chain: Chain) -> list[Pieces]:
    return [make(Place(n, chain.host, chain.cookie)) for n, make in enumerate(INPUTS.values())]


async def all_conversations(
    chain: Chain, inputs: Sequence[Pieces], is_over: Callable[[int, bytes], bool], quiet: float
) -> list[bytes]:
    """Send every input on a connection of its own; return what was said to each."""
    said = [b""] * len(inputs)
    turns = iter(range(len(inputs)))

    async def some() -> None:
        for n in turns:
            said[n] = await converse(chain, inputs[n], partial(is_over, n), quiet)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(some)
    return said


def is_closing(said: bytes) -> bool:
    return b"\r\nconnection: close\r\n" in said.lower()


def test_there_are_many_inputs_and_the_good_ones_are_plain() -> None:
    assert len(INPUTS) >= 300
    place = Place(7, "app.test", "a=b")
    whole = b"".join(INPUTS["bodies in turn"](place))
    assert plain_requests(whole, b"app.test") == (
        [
            Request(b"POST", b"/7/first", b"hello"),
            Request(b"POST", b"/7/first", b"hello"),
            Request(b"POST", b"/7/first", b""),
            Request(b"GET", b"/7/end", b""),
        ],
        "close",
    )


@pytest.mark.parametrize(
    ("token", "ending"),
    [
        (b"Teleport-Jwt-Assertion", "doubt"),
        (b"teleport.jwt.assertion", "doubt"),
        (b"X_Forwarded_For", "doubt"),
        (b"teleporteport-jwt-assertion", "more"),  # drawn once: no server reads our header in it
        (b"xaforwarded-for", "more"),
    ],
)
def test_a_connection_token_is_doubtful_if_a_server_may_read_a_reserved_header_in_it(
    token: bytes, ending: str
) -> None:
    request = b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: %b\r\n\r\n" % token
    assert plain_requests(request, b"app.test")[1] == ending


Open = Callable[[Path], AbstractAsyncContextManager[Chain]]


@pytest.mark.parametrize(
    "chain_of",
    [chains.direct, chains.before_nginx, chains.before_waitress, chains.before_uvicorn],
    ids=["tport", "tport-nginx", "tport-waitress", "tport-uvicorn"],
)
async def test_an_application_is_asked_what_the_client_plainly_sent_and_no_more(
    chain_of: Open, tmp_path: Path
) -> None:
    """HTTP-01, HTTP-02, HTTP-03, HTTP-04, HTTP-05, HTTP-06, HTTP-07, HTTP-08, HTTP-09, HTTP-11."""
    async with chain_of(tmp_path) as chain:
        inputs = sent_to(chain)
        plain = [plain_requests(b"".join(pieces), chain.host.encode()) for pieces in inputs]

        def is_over(n: int, said: bytes) -> bool:
            requests, ending = plain[n]
            return len(served(said)) >= len(requests) and (ending == "more" or is_closing(said))

        said = await all_conversations(chain, inputs, is_over, PATIENCE)

    asked = by_input(chain.application())  # once all servers have ended: some note late
    wrong = {}
    for n, name in enumerate(INPUTS):
        requests, _ = plain[n]
        told = served(said[n])
        if asked[n] != requests or told != [request.target for request in requests]:
            wrong[name] = {
                "plain": requests,
                "asked": asked[n],
                "told": told,
                "said": said[n][:300],
            }
    assert wrong == {}
    assert asked[-1] == []
    nothing_odd(chain)


@pytest.mark.parametrize(
    "chain_of", [chains.behind_nginx, chains.behind_haproxy], ids=["nginx-tport", "haproxy-tport"]
)
async def test_behind_another_server_tport_counts_the_same_requests(
    chain_of: Open, tmp_path: Path
) -> None:
    """HTTP-01, HTTP-02, HTTP-03, HTTP-04, HTTP-05: each that an application sees was passed on."""
    async with chain_of(tmp_path) as chain:
        assert chain.front is not None
        inputs = sent_to(chain)
        said = await all_conversations(chain, inputs, lambda n, data: is_closing(data), QUIET)

    asked, passed = by_input(chain.application()), by_input(chain.front())
    wrong = {}
    for n, name in enumerate(INPUTS):
        left = list(passed[n])
        extra = [each for each in asked[n] if not taken(left, each)]
        strangers = [each for each in served(said[n]) if input_of(each) != n]
        if extra or strangers:
            wrong[name] = {"passed": passed[n], "asked": asked[n], "strangers": strangers}
    assert wrong == {}
    assert asked[-1] == []
    assert sum(map(len, asked.values())) > 100
    nothing_odd(chain)


@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "chain_of",
    [chains.direct, chains.before_uvicorn, chains.behind_nginx, chains.behind_haproxy],
    ids=["tport", "tport-uvicorn", "nginx-tport", "haproxy-tport"],
)
async def test_of_thousands_of_mangled_messages_none_ends_elsewhere(
    chain_of: Open, tmp_path: Path
) -> None:
    """HTTP-01, HTTP-02, HTTP-03, HTTP-04, HTTP-05: whatever is asked was plainly sent, or passed on."""
    seed = random.randrange(2**32)
    draw, makes = random.Random(seed), list(INPUTS.values())
    async with chain_of(tmp_path) as chain:
        inputs = []
        for n in range(MANGLED):
            whole = b"".join(draw.choice(makes)(Place(n, chain.host, chain.cookie)))
            inputs.append((mangled(whole, draw),))
        await all_conversations(chain, inputs, lambda n, data: is_closing(data), QUIET)

    if chain.front is None:
        sent = Counter(each for [data] in inputs for each in plain_requests(data, None)[0])
    else:
        sent = Counter(chain.front())
    asked = Counter(chain.application())
    assert asked.total() > MANGLED / 10
    assert not asked - sent, f"seed {seed}"
    nothing_odd(chain)


def taken(requests: list[Request], request: Request) -> bool:
    """Take one such request out; False: there is none."""
    if request not in requests:
        return False
    requests.remove(request)
    return True


def nothing_odd(chain: Chain) -> None:
    """Hold that what an application of ours read was plain, and half of nothing smuggled."""
    if chain.recorder is not None:
        assert chain.recorder.odd == []
        assert not [
            half for half in chain.recorder.halves if b"/smuggled " in half.split(b"\r\n")[0]
        ]


async def answer_doubtfully(stream: trio.SocketStream) -> None:
    """Stand for an application: `/<n>/first` gets the nth of ANSWERS, all else a good one."""
    data = b""
    async with stream:
        try:
            while more := await stream.receive_some(65536):
                data += more
                while b"\r\n\r\n" in data:
                    request, data, _ = read_request(data, None)
                    if not request.target.endswith(b"/first"):
                        seen = b"X-Seen: %b" % request.target
                        await stream.send_all(answer(seen, b"Content-Length: 0"))
                        continue
                    sent, body = ANSWERS[input_of(request.target)]
                    await stream.send_all(sent)
                    if body is None and EVIL not in sent:
                        return  # it is cut short
        except trio.BrokenResourceError:
            pass  # the agent had enough


async def test_an_answer_that_could_end_in_two_places_is_a_502_and_nobody_elses(
    nursery: trio.Nursery,
) -> None:
    """HTTP-16: what follows an answer is none, and the next request gets its own."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer_doubtfully, [listener])
    async with chains.tport_before(listener.socket.getsockname()[1]) as (_, chain):
        places = [Place(n, chain.host, chain.cookie) for n in range(len(ANSWERS))]
        inputs = [(place.get(b"first") + place.end,) for place in places]
        said = await all_conversations(chain, inputs, lambda n, data: False, PATIENCE)

    wrong = {}
    for n, (sent, body) in enumerate(ANSWERS):
        answers, rest = plain_answers(said[n])
        first, later = answers[:1], answers[1:]
        own = [f"/{n}/end".encode()] == [s for each in later for s in served(b"\r\n" + each.head)]
        if body is None:
            # Whole answers are ours alone; one that had begun when the doubt came is cut.
            good = all(each.status == 502 for each in first) and (own or not later)
            good = good and (bool(first) or b"\r\n0\r\n\r\n" not in rest)
        else:
            good = own and rest == b"" and [each.body for each in first] == [body]
        if not good or any(b"x-evil" in each.head.lower() for each in answers):
            wrong[sent] = said[n]
    assert wrong == {}
