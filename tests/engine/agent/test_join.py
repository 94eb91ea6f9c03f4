"""Nothing is trusted at first use: who vouches for the cluster, and what is said when nobody does."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
import pytest
import trio
import trustme

from tests.certs import Cluster
from tport.engine.agent import join as join_module
from tport.engine.agent.join import found_authorities, join_cluster, shown_authorities
from tport.engine.config.address import Address
from tport.engine.errors import AccessDenied, ConnectionProblem, InvalidRequest
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.pki.authority import bundle_pin
from tport.engine.pki.contexts import https_context

SECRET = "0123456789abcdef" * 4
Answer = Callable[[Exchange], Awaitable[None]]


class Impostor:
    """Something with TLS at the address; remembers what it was sent."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.targets: list[bytes] = []
        self.port = 0
        self.name = "127.0.0.1"
        self.not_after: datetime | None = None
        self._ca = trustme.CA()
        self.authority = self._ca.cert_pem.bytes().decode()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate = self._ca.issue_cert(self.name, not_after=self.not_after)
        certificate.configure_cert(context)
        listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
        bottom = listeners[0].transport_listener
        assert isinstance(bottom, trio.SocketListener)
        self.port = bottom.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        async def note(exchange: Exchange) -> None:
            self.targets.append(exchange.request.target)
            await self.answer(exchange)

        try:
            await serve_http1(stream, note)
        except (trio.BrokenResourceError, ssl.SSLError):
            return


def bundle(cluster: Cluster) -> Answer:
    async def answer(exchange: Exchange) -> None:
        content = {
            "cluster": cluster.name,
            "host": cluster.host.trusted,
            "web": cluster.web.trusted,
        }
        await exchange.respond(200, [], msgspec.json.encode(content))

    return answer


def saying(status: int, body: bytes) -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(status, [], body)

    return answer


async def join(
    impostor: Impostor, token: str, *, pins: tuple[str, ...] = (), insecure: bool = False
) -> None:
    await join_cluster(
        Address("127.0.0.1", impostor.port),
        token,
        hostname="box",
        pins=pins,
        insecure=insecure,
        clock=lambda: datetime.now(UTC),
    )


async def test_another_clusters_authorities_are_refused_by_the_pin(nursery: trio.Nursery) -> None:
    impostor = Impostor(bundle(Cluster()))
    await nursery.start(impostor.run)
    pin = bundle_pin(Cluster().host.trusted, Cluster().web.trusted)
    with pytest.raises(AccessDenied, match="not those of the join token"):
        await join(impostor, f"{SECRET}.{pin}")

    assert impostor.targets == [b"/webapi/cas"]  # and no secret


async def test_one_wrong_pin_among_right_ones_is_refused(nursery: trio.Nursery) -> None:
    cluster = Cluster()
    impostor = Impostor(bundle(cluster))
    await nursery.start(impostor.run)
    right = bundle_pin(cluster.host.trusted, cluster.web.trusted)
    with pytest.raises(AccessDenied, match="not those of the CA pin"):
        await join(impostor, f"{SECRET}.{right}", pins=("0" * 64,))


async def test_who_copies_a_clusters_authorities_still_is_not_its_auth(
    nursery: trio.Nursery,
) -> None:
    """The pin holds for what anybody can fetch; the second connection proves who answers."""
    cluster = Cluster()
    impostor = Impostor(bundle(cluster))
    await nursery.start(impostor.run)
    pin = bundle_pin(cluster.host.trusted, cluster.web.trusted)
    with pytest.RaisesGroup(ConnectionProblem, allow_unwrapped=True, flatten_subgroups=True):
        await join(impostor, f"{SECRET}.{pin}")

    assert impostor.targets == [b"/webapi/cas"]


async def test_without_a_pin_a_certificate_nobody_signed_ends_it(nursery: trio.Nursery) -> None:
    impostor = Impostor(bundle(Cluster()))
    await nursery.start(impostor.run)
    with pytest.raises(ConnectionProblem) as told:
        await join(impostor, SECRET)

    assert "pin" in told.value.hint
    assert impostor.targets == []


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, b"not here"), (200, b"<html>"), (200, b"{}"), (200, b'{"cluster": 1}')],
)
async def test_what_is_no_tport_proxy_is_said_to_be_none(
    nursery: trio.Nursery, status: int, body: bytes
) -> None:
    impostor = Impostor(saying(status, body))
    await nursery.start(impostor.run)
    with pytest.raises(ConnectionProblem, match="no tport proxy") as told:
        await join(impostor, SECRET, insecure=True)
    assert "public_addr" in told.value.hint


async def test_an_answer_without_end_is_read_to_a_limit(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join_module, "MAX_BUNDLE", 1000)

    async def endless(exchange: Exchange) -> None:
        await exchange.send_head(200, [])
        while True:
            await exchange.send_body(b"x" * 1000)

    impostor = Impostor(endless)
    await nursery.start(impostor.run)
    with trio.fail_after(5), pytest.raises(ConnectionProblem):
        await join(impostor, SECRET, insecure=True)


async def test_a_proxy_that_says_nothing_is_given_up(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join_module, "FETCH_DEADLINE", 0.2)

    async def silent(_: Exchange) -> None:
        await trio.sleep_forever()

    impostor = Impostor(silent)
    await nursery.start(impostor.run)
    with trio.fail_after(5), pytest.raises(ConnectionProblem, match="did not answer"):
        await join(impostor, SECRET, insecure=True)


async def test_nobody_at_the_address_is_said(nursery: trio.Nursery) -> None:
    impostor = Impostor(saying(200, b""))
    [unused] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    impostor.port = unused.socket.getsockname()[1]
    await unused.aclose()
    with pytest.raises(ConnectionProblem):
        await join(impostor, SECRET, insecure=True)


@pytest.mark.parametrize("token", [f"{SECRET}.short", "a b", f"{SECRET}.{'g' * 64}"])
async def test_what_is_no_token_is_told_before_anything_is_dialled(token: str) -> None:
    impostor = Impostor(saying(200, b""))
    with pytest.raises(InvalidRequest):
        await join(impostor, token)


def dated(cluster: Cluster, date: bytes) -> Answer:
    """Show a cluster's authorities, with a `Date` of one's own."""

    async def answer(exchange: Exchange) -> None:
        content = {
            "cluster": cluster.name,
            "host": cluster.host.trusted,
            "web": cluster.web.trusted,
        }
        await exchange.respond(200, [(b"date", date)], msgspec.json.encode(content))

    return answer


async def test_a_proxy_whose_clock_is_another_is_told_before_anything_is_joined(
    nursery: trio.Nursery,
) -> None:
    """Nothing that it says would be believed: the person hears of the clock, not of certificates."""
    cluster = Cluster()
    impostor = Impostor(dated(cluster, b"Thu, 01 Jan 2015 00:00:00 GMT"))
    await nursery.start(impostor.run)
    pin = bundle_pin(cluster.host.trusted, cluster.web.trusted)
    with pytest.raises(ConnectionProblem, match=r"that of .* 2015-01-01T00:00:00Z") as told:
        await join(impostor, f"{SECRET}.{pin}")

    assert "both clocks" in told.value.hint
    assert impostor.targets == [b"/webapi/cas"]


@pytest.mark.parametrize("date", [b"yesterday", b"Thu, 01 Jan 2015 00:00:00"])
async def test_a_date_that_is_none_or_of_no_zone_is_read_as_well_as_can_be(
    nursery: trio.Nursery, date: bytes
) -> None:
    cluster = Cluster()
    impostor = Impostor(dated(cluster, date))
    await nursery.start(impostor.run)
    shown = await shown_authorities(Address("127.0.0.1", impostor.port))

    assert shown.cluster == cluster.name


async def test_what_does_not_speak_tls_is_asked_whether_it_is_the_proxy(
    nursery: trio.Nursery,
) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail.test ESMTP\r\n")
        await stream.aclose()

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, greet, [listener])
    impostor = Impostor(saying(200, b""))
    impostor.port = listener.socket.getsockname()[1]
    with pytest.raises(ConnectionProblem) as told:
        await join(impostor, SECRET, insecure=True)

    assert "public_addr" in told.value.hint


async def test_a_proxy_that_a_public_authority_vouches_for_needs_no_pin_and_no_warning(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster()
    impostor = Impostor(bundle(cluster))
    await nursery.start(impostor.run)
    believing = https_context(insecure=True)  # stands for the system's list of authorities
    monkeypatch.setattr(join_module, "https_context", lambda *, insecure: believing)
    with pytest.RaisesGroup(ConnectionProblem, allow_unwrapped=True, flatten_subgroups=True):
        await join(impostor, SECRET)  # the copy of what it shows is not auth

    assert impostor.targets == [b"/webapi/cas"]
    assert "INSECURE" not in caplog.text


# --- Joining by approval: whether a person must be asked who answered --------------------------------------


async def find(impostor: Impostor, *pins: str) -> tuple[str, bool]:
    """Return whose authorities were found, and whether somebody vouches for them."""
    proxy = Address("127.0.0.1", impostor.port)
    found, vouched = await found_authorities(proxy, pins, lambda: datetime.now(UTC))
    return bundle_pin(found.host, found.web), vouched


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def pin(cluster: Cluster) -> str:
    return bundle_pin(cluster.host.trusted, cluster.web.trusted)


async def test_a_certificate_that_a_public_authority_signed_vouches(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, cluster: Cluster, pin: str
) -> None:
    impostor = Impostor(bundle(cluster))
    await nursery.start(impostor.run)
    public = https_context(authorities=[impostor.authority])
    monkeypatch.setattr(join_module, "https_context", lambda *, insecure: public)

    assert await find(impostor) == (pin, True)


async def test_one_that_nobody_knows_is_read_and_vouched_for_by_nobody(
    nursery: trio.Nursery, cluster: Cluster, pin: str
) -> None:
    impostor = Impostor(bundle(cluster))
    await nursery.start(impostor.run)

    assert await find(impostor) == (pin, False)


async def test_a_pin_vouches_and_one_that_is_anothers_never_is_made_up_for(
    nursery: trio.Nursery, cluster: Cluster, pin: str
) -> None:
    """AG-16: with a pin a person is never asked instead."""
    impostor = Impostor(bundle(cluster))
    await nursery.start(impostor.run)

    assert await find(impostor, pin) == (pin, True)
    with pytest.raises(AccessDenied):
        await find(impostor, "0" * 64)
    with pytest.raises(AccessDenied):
        await find(impostor, pin, "0" * 64)


@pytest.mark.parametrize("wrong", ["name", "time"])
async def test_what_else_is_wrong_with_a_certificate_is_told_and_nothing_is_read(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, cluster: Cluster, wrong: str
) -> None:
    impostor = Impostor(bundle(cluster))
    if wrong == "name":
        impostor.name = "other.test"
    else:
        impostor.not_after = datetime(2020, 1, 1, tzinfo=UTC)
    await nursery.start(impostor.run)
    public = https_context(authorities=[impostor.authority])
    monkeypatch.setattr(
        join_module,
        "https_context",
        lambda *, insecure: https_context(insecure=True) if insecure else public,
    )

    with pytest.raises(ConnectionProblem, match="does not verify"):
        await find(impostor)
    assert impostor.targets == []


async def test_a_proxy_that_is_not_there_or_none_is_told_at_once(nursery: trio.Nursery) -> None:
    impostor = Impostor(saying(404, b"not here"))
    await nursery.start(impostor.run)
    with pytest.raises(ConnectionProblem, match="no tport proxy"):
        await find(impostor)
    [unused] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    impostor.port = unused.socket.getsockname()[1]
    await unused.aclose()
    with pytest.raises(ConnectionProblem, match="refused"):
        await find(impostor)
