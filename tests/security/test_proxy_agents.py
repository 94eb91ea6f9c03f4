"""AG-01 to AG-06, and AZ-03 and AZ-07 where an agent decides: machines that turned on the cluster."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from tests.figures import BUSY
from tests.rogue import open_rogue_agent, open_rogue_proxy, request_head
from tests.stack import DOMAIN, Stack, open_stack
from tport.engine.agent.join import auth_dial, join_cluster, renew_identity
from tport.engine.agent.state import load_state
from tport.engine.api.changes import Change, Current
from tport.engine.api.remote import open_remote_auth
from tport.engine.config.address import Address
from tport.engine.errors import AccessDenied, InvalidRequest, LimitExceeded, Locked
from tport.engine.pki.authority import new_authority
from tport.engine.pki.jwt import sign_session_credential
from tport.engine.pki.keys import load_certificate, make_key
from tport.engine.process import wall_clock
from tport.engine.proto.tunnel import NoAnswer, ResponseHead
from tport.engine.types.app import KEPT, App, DynamicLabel, Header, Rewrite, UpstreamTls
from tport.engine.types.identity import Identity
from tport.engine.types.lock import LockTarget
from tport.engine.types.resource import AppResource
from tport.engine.types.session import SessionCredential, session_id
from tport.engine.types.user import user_key


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    other = App(name="other", uri="http://127.0.0.1:1")
    async with open_stack(apps=(other,), drain=False) as opened:
        yield opened


async def _join(stack: Stack, token: str) -> str:
    state = await join_cluster(
        Address("127.0.0.1", stack.port),
        token,
        hostname="rogue",
        pins=(),
        insecure=False,
        clock=wall_clock,
    )
    return state.host_id


# --- Joining -----------------------------------------------------------------------------------------


async def test_ag_01_guessing_tokens_joins_nobody_and_is_stopped(stack: Stack) -> None:
    """AG-01: through the proxy's port, as a stranger does it; the failures are written down."""
    pin = stack.auth.pin
    refusals = []
    for number in range(12):
        with pytest.raises((AccessDenied, LimitExceeded)) as refused:
            await _join(stack, f"{number:032x}.{pin}")
        refusals.append(type(refused.value))

    assert refusals[0] is AccessDenied
    assert refusals[-1] is LimitExceeded
    failed = await stack.event("instance.join", success=False)
    assert f"{0:032x}" not in str(failed)


async def test_ag_02_a_token_is_used_up_and_stays_out_of_logs(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """AG-02: one of one use joins one machine; deleted, it joins none; nobody writes it down."""
    caplog.set_level("DEBUG")
    once = await stack.admin.create_token(
        roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
    )
    await _join(stack, once.token)
    with pytest.raises(AccessDenied):
        await _join(stack, once.token)
    deleted = await stack.admin.create_token(
        roles=("app",), ttl=600, app_name="", app_uri="", max_uses=5
    )
    await stack.admin.delete_token(token=deleted.token)
    with pytest.raises(AccessDenied):
        await _join(stack, deleted.token)

    await stack.event("instance.join", success=False)
    kept = caplog.text + str(await stack.events()) + await trio.to_thread.run_sync(stack.files)
    for made in (once, deleted):
        assert made.token.partition(".")[0] not in kept


async def test_ag_03_a_pinned_agent_offers_its_application_and_no_other(stack: Stack) -> None:
    """AG-03: its certificate says so, whatever its hello says."""
    async with (
        open_rogue_agent(stack, pinned="mine") as agent,
        agent.tunnel(
            App(name="mine", uri="http://127.0.0.1:1"),
            App(name="jenkins", uri="http://127.0.0.1:1"),
        ) as tunnel,
    ):
        assert set(tunnel.verdicts.hosts) == {"mine"}
        assert "lets it offer only mine" in tunnel.verdicts.refused["jenkins"]
        await stack.event("app.refused", app_name="jenkins", server_id=agent.state.host_id)


async def test_ag_03_an_app_token_makes_an_agent_and_nothing_more(stack: Stack) -> None:
    """AG-03: what it gives makes no token, reports for no proxy and opens no session."""
    async with open_rogue_agent(stack) as agent:
        leaf = load_certificate(agent.state.certificate)
        assert b'"kind":"agent"' in leaf.public_bytes(Encoding.DER)
        hosts = agent.state.authorities.host
        dial = auth_dial(Address("127.0.0.1", stack.port), agent.state.pair, hosts, wall_clock)
        async with open_remote_auth(dial) as auth:
            with pytest.raises(AccessDenied):
                await auth.create_token(roles=("app",), ttl=60, app_name="", app_uri="", max_uses=1)
            with pytest.raises(AccessDenied):
                await auth.sign_session(id="0" * 64)
            with pytest.raises(AccessDenied):
                await auth.offer(
                    host_id="x",
                    hostname="",
                    version="",
                    apps=(_echo(stack),),
                    pinned=None,
                    pinned_uri="",
                )
        await stack.event("auth.failed", caller="agent", name=agent.state.host_id)


# --- Offering ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *(DOMAIN, DOMAIN.upper() + ".", "localhost", f"a.echo.{DOMAIN}", f"echo.{DOMAIN}"),
        *(f"*.{DOMAIN}", "10.0.0.1", "[::1]", f"evil.{DOMAIN}:443", f"evil.{DOMAIN}\n", ""),
    ],
)
async def test_ag_04_nobody_takes_an_address_of_the_proxy_or_of_others(
    stack: Stack, address: str
) -> None:
    """AG-04: "" is the name itself, `echo`, offered with another definition."""
    alice = await stack.user("alice")
    name = "evil" if address else "echo"
    rogue = App(name=name, uri="http://127.0.0.1:1", public_addr=address)

    async with open_rogue_agent(stack) as agent, agent.tunnel(rogue) as tunnel:
        assert tunnel.verdicts.refused.keys() == {name}
        assert tunnel.verdicts.hosts == {}
        await stack.event("app.refused", app_name=name, server_id=agent.state.host_id)
        answer = await alice.get("echo")

    assert answer.status == 200  # and from the old agent: the rogue one answers nothing
    assert len(stack.echo.seen) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"uri": "http://127.0.0.1:1"},
        {"public_addr": "echo.elsewhere.test"},
        {"insecure_skip_verify": True},
        {"rewrite": Rewrite(headers=(Header(name="X-Team", value="red"),))},
    ],
    ids=["uri", "public_addr", "insecure_skip_verify", "rewrite"],
)
async def test_ag_04_a_second_agent_must_agree_on_the_definition(
    stack: Stack, change: dict[str, object]
) -> None:
    alice = await stack.user("alice")
    same = App(name="echo", uri=f"http://127.0.0.1:{stack.echo.port}")

    async with open_rogue_agent(stack) as agent, agent.tunnel(replace(same, **change)) as tunnel:
        assert "another agent offers this name" in tunnel.verdicts.refused["echo"]
        assert "http" not in tunnel.verdicts.refused["echo"]  # nor is it told the right one
        assert (await alice.get("echo")).status == 200
        assert (await tunnel.offer(same)).refused == {}


async def test_ops_03_what_an_agent_s_file_says_to_an_application_stays_with_the_two() -> None:
    """OPS-03: a password in `rewrite.headers` is in no database and no log, on no page and in no answer."""
    secret = "Basic " + base64.b64encode(b"shop:" + secrets.token_bytes(18)).decode()
    headers = (Header("Authorization", secret), Header("X-Env", "{{external.env}}"))
    async with open_stack(rewrite=Rewrite(headers=headers)) as stack:
        alice = await stack.user("alice", roles=("access", "editor"))
        await alice.get("echo")
        assert stack.echo.seen[0].values(b"authorization") == [secret.encode()]

        [server] = [s for s in await stack.admin.list_app_servers() if s.app.name == "echo"]
        assert server.app.rewrite.headers == (Header("Authorization", KEPT), headers[1])
        told = [
            str(await stack.admin.status()),
            str(await stack.admin.list_apps()),
            str(await stack.admin.get_resources(kind="app_server", name="", secrets=True)),
            str(await stack.events()),
            await trio.to_thread.run_sync(stack.files),
        ]
        for path in (
            f"/web/cluster/{DOMAIN}/apps",
            "/web/agents",
            "/web/app/echo/check",
            "/web/role/access",
        ):
            cookie = {"Cookie": f"{stack.web_cookie}={alice.web}"}
            answer = await stack.request(DOMAIN, path, cookie)
            assert answer.status == 200
            told.append(answer.body.decode())

    assert KEPT in told[0]
    assert KEPT in told[4]  # what is looked through does have the definition
    assert [text for text in told if secret.partition(" ")[2] in text] == []


async def test_ag_04_an_agent_cannot_speak_under_another_ones_id(stack: Stack) -> None:
    async with open_rogue_agent(stack) as agent:
        with pytest.RaisesGroup(trio.BrokenResourceError):
            async with agent.tunnel(agent_id="somebody-else"):
                pass
        error = "the agent calls itself otherwise than its certificate does"
        await stack.event("tunnel.protocol_error", host_id=agent.state.host_id, error=error)


# --- The tunnel --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", [b"127.0.0.1:3025", b"169.254.169.254:80", b""])
async def test_ag_05_a_stream_opened_by_an_agent_ends_its_tunnel(stack: Stack, wish: bytes) -> None:
    alice = await stack.user("alice")
    mine = App(name="mine", uri="http://127.0.0.1:1")

    async with open_rogue_agent(stack) as agent, agent.tunnel(mine) as tunnel:
        stream = tunnel.mux.open_stream()
        await stream.send_all(wish or b"\0")
        with trio.fail_after(5 * BUSY):
            await tunnel.mux.wait_closed()
        await stack.event("tunnel.protocol_error", host_id=agent.state.host_id)

    assert (await alice.get("echo")).status == 200  # other tunnels go on


@pytest.mark.parametrize("name", ["../../etc", "http://x", "nosuch", "ECHO", "echo\0", ""])
async def test_ag_06_an_agent_dials_what_its_own_configuration_names(
    stack: Stack, name: str
) -> None:
    """AG-06: a proxy in the enemy's hands asks for what it likes; no head holds an address."""
    alice = await stack.user("alice")
    await alice.open("echo")
    sid = session_id(alice.apps[stack.host("echo")])
    signed = await stack.api.sign_session(id=sid)

    async with open_rogue_proxy(stack) as proxy, proxy.victim([_echo(stack)]) as ask:
        answer = await ask(request_head(name, sid, signed.credential))
        good = await ask(request_head("echo", sid, signed.credential))

    assert isinstance(answer, NoAnswer)
    assert answer.kind == "unknown-app"
    assert isinstance(good, ResponseHead)
    assert len(stack.echo.seen) == 1


# --- What the agent asks of a credential ---------------------------------------------------------------


async def test_az_03_an_agent_checks_again_behind_a_proxy_that_checks_nothing(
    stack: Stack,
) -> None:
    """AZ-03, AZ-07: no session, a session of another application, forged, expired, revoked."""
    alice = await stack.user("alice")
    await alice.open("echo")
    await alice.open("other")
    sid = session_id(alice.apps[stack.host("echo")])
    elsewhere = session_id(alice.apps[stack.host("other")])
    genuine = await _credential(stack, sid)
    ours = stack.auth.cluster.keys["jwt"]
    theirs = new_authority("jwt", DOMAIN, now=wall_clock())
    signed = sign_session_credential(ours, genuine)
    past = wall_clock() - timedelta(minutes=10)
    over = sign_session_credential(ours, replace(genuine, issued=past, expires=past))
    ended = sign_session_credential(ours, replace(genuine, session_expires=past))
    app_jwt = genuine.jwt
    other = (await stack.api.sign_session(id=elsewhere)).credential
    header, payload, signature = signed.split(".")
    wrong = {
        "no credential": (sid, "", "unknown-session"),
        "of another session": (sid, other, "denied"),
        "for another application": (elsewhere, other, "denied"),
        "signed by another key": (sid, sign_session_credential(theirs, genuine), "denied"),
        "changed": (sid, f"{header}.{payload[:-2]}AA.{signature}", "denied"),
        "unsigned": (sid, f"{header}.{payload}.", "denied"),
        "alg none": (sid, jwt.encode({"sid": sid}, "", algorithm="none"), "denied"),
        "the application's token": (sid, app_jwt, "denied"),
        "nonsense": (sid, "x", "denied"),
        "expired": (sid, over, "unknown-session"),
        "of an ended session": (sid, ended, "unknown-session"),
        "of an earlier epoch": (
            sid,
            sign_session_credential(ours, replace(genuine, epoch=genuine.epoch - 1)),
            "unknown-session",
        ),
        "roles that allow nothing": (
            sid,
            sign_session_credential(ours, replace(genuine, roles=("editor",))),
            "denied",
        ),
    }
    got: dict[str, object] = {}

    async with open_rogue_proxy(stack) as proxy, proxy.victim([_echo(stack)]) as ask:
        for name, (session, credential, kind) in wrong.items():
            answer = await ask(request_head("echo", session, credential))
            if not isinstance(answer, NoAnswer) or answer.kind != kind:
                got[name] = answer
        assert got == {}
        assert stack.echo.seen == []
        assert isinstance(await ask(request_head("echo", sid, signed)), ResponseHead)
        # While the agent runs: cut off at the end, it may not have sent them yet.
        await stack.event("auth.failed", sid=sid, server_kind="agent")
        await stack.event("app.access.denied", sid=sid, server_kind="agent", app_name="echo")


async def test_ag_15_a_locked_agent_is_gone_at_once_and_stays_out_until_the_lock_is_lifted(
    stack: Stack,
) -> None:
    """AG-15, AZ-04: a download is cut; tunnel, watch and renewal are refused; the process lives on."""
    alice = await stack.user("alice")
    await alice.open("raw")
    await alice.open("echo")
    stack.raw_app.script = _drip
    [agent] = (await stack.admin.status()).agents
    get = f"GET / HTTP/1.1\r\nHost: {stack.host('raw')}\r\nCookie: {alice.cookie('raw')}\r\n\r\n"
    async with await stack.connect(stack.host("raw")) as download:
        await download.send_all(get.encode())
        assert (await download.receive_some()).startswith(b"HTTP/1.1 200")
        lock = await stack.admin.create_lock(
            target=LockTarget(server_id=agent.hostname), message="it was stolen", ttl=0
        )
        assert lock.target.server_id == agent.host_id
        with trio.fail_after(5):
            cut = b""
            with suppress(trio.BrokenResourceError):  # a reset is as good an end of it
                while more := await download.receive_some():
                    cut += more
            while (await stack.admin.status()).agents:  # noqa: ASYNC110 - over a network
                await trio.sleep(0.01)
    assert not cut.endswith(b"0\r\n\r\n")
    refused = await alice.get("echo", Accept="application/json")

    identity = Identity(kind="agent", name=agent.host_id, cluster=DOMAIN)
    with pytest.raises(Locked, match="it was stolen"):
        await stack.auth.as_caller(identity, "127.0.0.1").emit(events=())
    state = stack.running.config.data_dir / "agent"
    kept = await trio.to_thread.run_sync(load_state, state)
    assert kept is not None
    asking = replace(kept, next_key=make_key())
    with pytest.raises(Locked):
        await renew_identity(asking, Address("127.0.0.1", stack.port), wall_clock)
    down = await stack.event("tunnel.down", host_id=agent.host_id)

    await stack.admin.delete_lock(name=lock.name)
    with trio.fail_after(20):
        while (await alice.get("echo")).status != 200:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.05)

    assert refused.status == 503
    assert down["reason"] == "the agent is locked"


# --- What auth hands to agents -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "harm",
    [
        {"commands": (DynamicLabel(name="env", command=("/usr/bin/touch", "{file}"), period=1),)},
        {"uri": "http://169.254.169.254/"},
        {"allow_metadata": True},
        {"tls": UpstreamTls(ca_file="/etc/hostname")},
    ],
    ids=lambda harm: next(iter(harm)),
)
async def test_ag_14_who_writes_applications_rules_no_agent_s_machine(
    tmp_path: Path, harm: dict[str, Any]
) -> None:
    """AG-14, AG-07: auth refuses it; written past auth's rules, the agent does, and says why."""
    file = tmp_path / "was-run"
    if labels := harm.get("commands"):
        command = tuple(word.replace("{file}", str(file)) for word in labels[0].command)
        harm = {"commands": (replace(labels[0], command=command),)}
    async with open_stack(resources=[{"*": ("*",)}], drain=False) as stack:
        good = App(name="fine", uri=f"http://127.0.0.1:{stack.echo.port}", labels={"env": "dev"})
        bad = replace(good, name="evil", **harm)
        with pytest.raises(InvalidRequest):
            await stack.admin.put_resource(resource=AppResource(app=bad), mode="create")
        await stack.auth.cluster.stores.app_resources.put("evil", bad)
        await stack.admin.put_resource(resource=AppResource(app=good), mode="create")
        alice = await stack.user("alice")
        with trio.fail_after(5 * BUSY):
            while not {"fine", "evil"} <= _states(stack).keys():  # noqa: ASYNC110 - over a network
                await trio.sleep(0.01)

        assert _states(stack)["fine"] == ""
        assert _states(stack)["evil"] != ""
        assert (await alice.get("fine")).status == 200
        with pytest.raises(AccessDenied):
            await alice.open("evil")
    assert not file.exists()


async def test_ag_03_an_agent_is_told_of_no_application_that_its_token_does_not_name(
    stack: Stack,
) -> None:
    """AG-03, AG-12: what is in such an application's headers is not every machine's to know."""
    secret = App(name="secret", uri="http://127.0.0.1:1", labels={"env": "prod"})
    await stack.admin.put_resource(resource=AppResource(app=secret), mode="create")
    pinned = Identity(kind="agent", name="rogue", cluster=DOMAIN, apps=("other", "dumper"))

    with trio.fail_after(5):
        async with stack.auth.as_caller(pinned, "127.0.0.1").watch() as changes:
            told = [change async for change in _first(changes)]

    assert "secret" not in repr(told)


def _states(stack: Stack) -> dict[str, str]:
    return {s.app.name: s.refused for s in stack.auth.presence.servers}


async def _first(changes: AsyncIterator[Change]) -> AsyncIterator[Change]:
    """Yield what a watch tells first, up to where all is told."""
    async for change in changes:
        if isinstance(change, Current):
            return
        yield change


async def test_az_03_what_auth_takes_away_the_agent_refuses_without_the_proxys_help(
    stack: Stack,
) -> None:
    """AZ-03, AZ-04: a proxy that goes on sending after a sign-out or a deletion."""
    alice = await stack.user("alice")
    bob = await stack.user("bob")
    await alice.open("echo")
    await bob.open("echo")
    of_alice = session_id(alice.apps[stack.host("echo")])
    of_bob = session_id(bob.apps[stack.host("echo")])
    heads = {
        sid: request_head("echo", sid, (await stack.api.sign_session(id=sid)).credential)
        for sid in (of_alice, of_bob)
    }

    async with open_rogue_proxy(stack) as proxy, proxy.victim([_echo(stack)]) as ask:
        for head in heads.values():
            assert isinstance(await ask(head), ResponseHead)
        await stack.api.sign_out(id=session_id(alice.web))
        await stack.admin.delete_user(name="bob")
        with trio.fail_after(5):
            for head in heads.values():
                while not isinstance(await ask(head), NoAnswer):  # noqa: ASYNC110 - over a network
                    await trio.sleep(0.01)
        stack.echo.seen.clear()
        for head in heads.values():
            assert isinstance(await ask(head), NoAnswer)

    assert stack.echo.seen == []


async def _drip(stream: trio.SocketStream) -> None:
    """Answer with a body that never ends."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await stream.send_all(b"1\r\nx\r\n")
        await trio.sleep(0.05)


def _echo(stack: Stack) -> App:
    return App(name="echo", uri=f"http://127.0.0.1:{stack.echo.port}")


async def _credential(stack: Stack, sid: str) -> SessionCredential:
    """Return what auth would sign for a session, to sign it otherwise."""
    session = await stack.api.app_session(id=sid)
    signed = await stack.api.sign_session(id=sid)
    claims = jwt.decode(signed.credential, options={"verify_signature": False})
    return SessionCredential(
        sid=sid,
        user=session.user,
        user_key=user_key(session.user_id),
        roles=("access",),
        traits={},
        app=session.app,
        host=session.host,
        cluster=session.cluster,
        epoch=session.epoch,
        issued=wall_clock(),
        expires=signed.expires,
        session_expires=session.expires,
        jwt=claims["jwt"],
    )
