"""Messages in a tunnel survive any cut of the network, and nonsense is an error, never a guess."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.errors import RemoteProtocolError
from tport.engine.proto.tunnel import (
    HIGHEST,
    LOWEST,
    MAX_MESSAGE,
    SPOKEN,
    Accepted,
    AgentHello,
    Inbox,
    NoAnswer,
    Offers,
    Proxies,
    ProxyHello,
    RequestHead,
    ResponseHead,
    Spoken,
    Verdicts,
    agreed,
    answer_decoder,
    control_decoder,
    nothing_agreed,
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
    ProxyHello(protocol=HIGHEST, version="1", proxy_id="p", cluster="c", proxies=("p",)),
    AgentHello(
        protocol=HIGHEST,
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


@pytest.mark.parametrize(
    ("decoder", "begin"),
    [
        (control_decoder, b"\x82\xa4type\xa7proxies\xa5later"),
        (answer_decoder, b"\x92\xa8accepted"),
        (request_decoder, b"\x9d\xa7request\xa1a\xa1s\xa0\xc4\0\xc4\0\xc4\0\xc0\xc4\0\xa0\xa0\xa0"),
    ],
    ids=["control", "answer", "request"],
)
def test_a_message_nested_however_deep_is_malformed_and_no_bug(
    decoder: msgspec.msgpack.Decoder[object], begin: bytes
) -> None:
    """AG-10: what a later version adds is read past, but not arrays within arrays for ever."""
    body = begin + b"\x91" * 200_000 + b"\xc0"
    inbox = Inbox(len(body).to_bytes(4, "big") + body)

    with pytest.raises(RemoteProtocolError, match="recursion"):
        inbox.take(decoder)


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


@pytest.mark.parametrize(
    "more",
    [{"apps": [{}] * 500_000}, {"apps": [], "faulty": [[]] * 500_000}],
    ids=["apps", "faulty"],
)
@pytest.mark.parametrize("kind", ["offers", "agent-hello"])
def test_more_offers_than_an_agent_may_have_are_refused_before_they_are_read(
    kind: str, more: dict[str, list[object]]
) -> None:
    """AG-10: to read 900 KB of them takes the loop for a tenth of a second. None of these can be read."""
    head = {"protocol": 1, "version": "v", "agent_id": "a", "hostname": "h"}
    body = msgspec.msgpack.encode({"type": kind, **head, **more})
    inbox = Inbox(len(body).to_bytes(4, "big") + body)

    with pytest.raises(RemoteProtocolError, match="length <= 1000"):
        inbox.take(control_decoder)


def test_a_message_of_the_other_kind_is_refused() -> None:
    """An agent that sends requests, a proxy that answers: no stream runs backwards (AG-05)."""
    inbox = Inbox()
    inbox.feed(pack(HEAD))

    with pytest.raises(RemoteProtocolError):
        inbox.take(answer_decoder)


def test_a_newer_peer_may_say_more_in_every_message() -> None:
    """New fields don't raise HIGHEST: an older end must read past them (R-35)."""
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


RANGES = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda ends: Spoken(*sorted(ends)))


@given(ours=RANGES, theirs=RANGES)
def test_two_sides_agree_on_the_highest_protocol_that_both_speak(
    ours: Spoken, theirs: Spoken
) -> None:
    both = {*range(ours.lowest, ours.highest + 1)} & {*range(theirs.lowest, theirs.highest + 1)}

    assert agreed(ours, theirs) == agreed(theirs, ours) == max(both, default=None)


@given(lowest=st.integers(), highest=st.integers())
def test_a_peers_range_that_makes_no_sense_is_no_way_to_a_protocol_that_we_do_not_speak(
    lowest: int, highest: int
) -> None:
    assert agreed(SPOKEN, Spoken(lowest, highest)) in {None, *range(LOWEST, HIGHEST + 1)}


@given(version=st.integers(2, 50), ahead=st.integers(0, 5))
def test_neighbours_agree_while_each_version_raises_the_protocol_and_keeps_the_last_one(
    version: int, ahead: int
) -> None:
    """The rule at its fastest: one protocol more with each minor version, each one kept for one more."""
    older = Spoken(version, version + 1)
    newer = Spoken(version + ahead, version + ahead + 1)

    assert (agreed(older, newer) is not None) == (ahead <= 1)


def test_version_0_1_which_compares_one_number_takes_our_hello_and_we_take_its() -> None:
    """It took 2 alone, from both sides, and said nothing of a highest."""
    assert LOWEST == 2
    assert agreed(SPOKEN, Spoken(2, 2)) == 2


def test_who_is_to_upgrade_is_the_older_one() -> None:
    names = {"us": "this agent (tport 0.2.0)", "them": "the proxy (tport 0.4.0)"}

    assert nothing_agreed(Spoken(2, 3), Spoken(4, 5), **names) == (
        "the proxy (tport 0.4.0) speaks tunnel protocol 4 to 5, this agent (tport 0.2.0) 2 to 3:"
        " they are more than one minor version apart; upgrade this agent (tport 0.2.0)"
    )
    assert nothing_agreed(Spoken(4, 4), Spoken(2, 2), **names).endswith(
        "the proxy (tport 0.4.0) speaks tunnel protocol 2, this agent (tport 0.2.0) 4: they are more"
        " than one minor version apart; upgrade the proxy (tport 0.4.0)"
    )


def test_a_message_that_is_not_known_is_no_message() -> None:
    """A newer peer says one only to who named it in its hello: what comes unasked is a mistake."""
    raw = msgspec.msgpack.encode({"type": "news", "text": "x"})
    inbox = Inbox(len(raw).to_bytes(4, "big") + raw)

    with pytest.raises(RemoteProtocolError, match="malformed"):
        inbox.take(control_decoder)


def test_no_message_names_an_address_to_dial() -> None:
    """AG-06: an agent maps the name to its own URI."""
    assert not {"uri", "host", "port", "address"} & set(RequestHead.__struct_fields__)
