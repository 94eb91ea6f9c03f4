"""Messages in a tunnel survive any cut of the network, and nonsense is an error, never a guess."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.errors import RemoteProtocolError
from tport.engine.proto.tunnel import (
    MAX_MESSAGE,
    PROTOCOL,
    Accepted,
    AgentHello,
    Inbox,
    NoAnswer,
    Offers,
    Proxies,
    ProxyHello,
    RequestHead,
    ResponseHead,
    Verdicts,
    answer_decoder,
    control_decoder,
    pack,
    request_decoder,
)
from tport.engine.types.app import App

HEAD = RequestHead(
    app="grafana",
    session="s1",
    credential="",
    method=b"GET",
    target=b"/",
    headers=b"accept: */*\r\nx-odd: \xff\r\n",
    length=None,
    upgrade=b"",
    remote="192.0.2.1",
    public="grafana.proxy.test",
    request_id="r1",
)
CONTROL = (
    ProxyHello(protocol=PROTOCOL, version="1", proxy_id="p", cluster="c", proxies=("p",)),
    AgentHello(
        protocol=PROTOCOL,
        version="1",
        agent_id="a",
        hostname="h",
        apps=(App(name="grafana", uri="http://localhost:3000"),),
    ),
    Offers(apps=()),
    Verdicts(refused={"a": "no"}, hosts={"b": "b.proxy.test"}),
    Proxies(proxies=("p", "q")),
)
ANSWERS = (
    Accepted(),
    ResponseHead(status=200, reason=b"OK", headers=b"a: b\r\n", length=5),
    NoAnswer(kind="unreachable", hop="app", cause="connection refused"),
)


@given(cuts=st.lists(st.integers(1, 50)), body=st.binary(max_size=200))
def test_messages_come_out_whole_wherever_the_bytes_are_cut(cuts: list[int], body: bytes) -> None:
    data = pack(HEAD) + body
    inbox = Inbox()
    found = None
    for size in [*cuts, len(data)]:
        inbox.feed(data[:size])
        data = data[size:]
        found = found or inbox.take(request_decoder)

    assert found == HEAD
    assert inbox.rest() == body
    assert inbox.rest() == b""


def test_several_messages_in_one_read_come_one_by_one() -> None:
    inbox = Inbox()
    inbox.feed(b"".join(pack(message) for message in ANSWERS) + b"body")

    assert [inbox.take(answer_decoder) for _ in ANSWERS] == list(ANSWERS)
    assert inbox.rest() == b"body"


@pytest.mark.parametrize("message", CONTROL, ids=lambda message: type(message).__name__)
def test_control_messages_mean_the_same_at_the_far_end(message: ProxyHello) -> None:
    inbox = Inbox()
    inbox.feed(pack(message))

    assert inbox.take(control_decoder) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_too_few_bytes_or_an_error(data: bytes) -> None:
    inbox = Inbox()
    inbox.feed(data)
    try:
        taken = inbox.take(request_decoder)
    except RemoteProtocolError:
        return
    assert taken is None or isinstance(taken, RequestHead)


def test_a_message_that_says_it_is_too_long_is_refused_before_it_comes() -> None:
    inbox = Inbox()
    inbox.feed((MAX_MESSAGE + 1).to_bytes(4, "big"))

    with pytest.raises(RemoteProtocolError):
        inbox.take(control_decoder)


def test_a_message_of_the_other_kind_is_refused() -> None:
    """An agent that sends requests, a proxy that answers: no stream runs backwards (AG-05)."""
    inbox = Inbox()
    inbox.feed(pack(HEAD))

    with pytest.raises(RemoteProtocolError):
        inbox.take(answer_decoder)


def test_a_newer_peer_may_say_more_in_every_message() -> None:
    """New fields don't raise PROTOCOL: an older end must read past them (R-35)."""
    for message in (HEAD, ResponseHead(status=200, reason=b"", headers=b"", length=0), *CONTROL):
        fields = msgspec.msgpack.decode(pack(message)[4:])
        if isinstance(fields, list):
            fields.append("something new")
        else:
            fields["something_new"] = 1
        raw = msgspec.msgpack.encode(fields)
        inbox = Inbox()
        inbox.feed(len(raw).to_bytes(4, "big") + raw)
        if isinstance(message, RequestHead):
            assert inbox.take(request_decoder) == message
        elif isinstance(message, ResponseHead):
            assert inbox.take(answer_decoder) == message
        else:
            assert inbox.take(control_decoder) == message


def test_no_message_names_an_address_to_dial() -> None:
    """AG-06: an agent maps the name to its own URI."""
    assert not {"uri", "host", "port", "address"} & set(RequestHead.__struct_fields__)
