"""Security items of the auth service: each test holds the ID of its item."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar, get_args

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.sso.visits import GOOGLE
from tests.engine.auth.world import (
    CLUSTER,
    GRAFANA,
    JENKINS,
    PASSWORD,
    PROXY,
    STATE,
    MemoryAudit,
    World,
    open_world,
)
from tests.fakes import START, WallClock
from tport.engine.access.rules import check_rule
from tport.engine.api import wire
from tport.engine.api.answers import ProxyReport, SignedIn
from tport.engine.api.factors import Proof
from tport.engine.api.protocol import CALLERS, RULES, AuthAPI
from tport.engine.auth.calls.machine import PROXY_EVENTS
from tport.engine.auth.cluster import AuthSettings, StaticToken, open_cluster
from tport.engine.auth.service import AuthService
from tport.engine.auth.signin.failures import Failures
from tport.engine.auth.signin.login import AFTER_HASH, FAILURE_TIME
from tport.engine.auth.steady_clock import SteadyClock
from tport.engine.defaults import MAX_LOGIN_FAILURES
from tport.engine.errors import (
    AccessDenied,
    ConfigError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    NotSignedIn,
    TportError,
)
from tport.engine.pki.identity import identity_extension
from tport.engine.pki.keys import KeyPair, load_private_key, make_csr, make_key
from tport.engine.storage.memory import MemoryBackend
from tport.engine.types.chain import ChainState
from tport.engine.types.event import CODES, Event, event
from tport.engine.types.event_query import EventQuery
from tport.engine.types.health import AppHealth
from tport.engine.types.identity import Identity, IdentityKind
from tport.engine.types.lock import LockTarget
from tport.engine.types.preference import Preference
from tport.engine.types.probe import ProbeReport
from tport.engine.types.resource import RoleResource
from tport.engine.types.role import PRESETS, Role
from tport.engine.types.user import FailedLogins

T = TypeVar("T")

HOST = f"grafana.{PROXY}"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        yield world


CA = "https://ca.test/directory"

# One plausible request for every call, so that a denial is for who asks and not for what.
SSO_BROWSER = {"browser": "0" * 64, "address": "x.test", "next": "/", "remote": "192.0.2.1"}
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "join": {"token": "0" * 32, "csr": "", "role": "app", "hostname": ""},
    "renew": {"certificate": "", "csr": "", "proof": ""},
    "report_certificates": {"states": ()},
    "list_certificates": {},
    "report_health": {"apps": {}},
    "report": {"report": ProxyReport(proxy_id="proxy-1", public_addrs=(), tunnels=())},
    "offer": {
        "host_id": "a",
        "hostname": "",
        "version": "",
        "apps": (),
        "pinned": None,
        "pinned_uri": "",
    },
    "web_certificate": {"csr": "", "host": "nothing.example.net"},
    "acme_account": {"directory": CA},
    "acme_registered": {"directory": CA, "url": f"{CA}/1"},
    "acme_begin": {"directory": CA, "names": (HOST,), "serial": ""},
    "acme_show": {"directory": CA, "name": HOST, "order": "x", "challenges": ()},
    "acme_holds": {"order": "x"},
    "acme_all_hold": {"order": "x"},
    "acme_obtained": {
        "directory": CA,
        "name": HOST,
        "order": "x",
        "pair": KeyPair(chain="", key=""),
        "renew_at": START,
        "look_at": None,
    },
    "acme_failed": {
        "directory": CA,
        "name": HOST,
        "order": "x",
        "problem": "",
        "retry_after": 0.0,
        "unreached": True,
    },
    "acme_forgive": {"directory": CA},
    "acme_schedule": {
        "directory": CA,
        "name": HOST,
        "serial": "",
        "renew_at": START,
        "look_at": None,
    },
    "acme_pair": {"directory": CA, "name": HOST},
    "emit": {"events": ()},
    "sign_in": {"username": "x", "password": "x", "remote": "192.0.2.1", "user_agent": ""},
    "web_session": {"id": "0"},
    "sign_out": {"id": "0"},
    "invite": {"token": "x"},
    "accept_invite": {"token": "x", "password": "x", "remote": "", "user_agent": ""},
    "next_step": {"browser": "0" * 64},
    "begin_passkey": {"browser": "0" * 64, "remote": ""},
    "prove": {
        "browser": "0" * 64,
        "attempt": "x",
        "proof": Proof(kind="totp", value="000000"),
        "remote": "",
        "user_agent": "",
    },
    "enrol": {
        "browser": "0" * 64,
        "attempt": "x",
        "proof": Proof(kind="totp", value="000000"),
        "name": "",
        "remote": "",
        "user_agent": "",
    },
    "skip_enrolment": {"browser": "0" * 64, "attempt": "x", "remote": "", "user_agent": ""},
    "prove_again": {"attempt": "x", "proof": Proof(kind="password", value="x")},
    "add_device": {"attempt": "x", "proof": Proof(kind="totp", value="000000"), "name": ""},
    "rename_device": {"id": "x", "name": "x"},
    "remove_device": {"id": "x"},
    "change_password": {"current": "x", "new": "x"},
    "launch": {"web_session": "0", "host": HOST, "state": STATE, "age": 0.0},
    "redeem": {"code": "x", "state": STATE, "host": HOST, "remote": ""},
    "app_session": {"id": "0"},
    "end_app_session": {"id": "0"},
    "sign_session": {"id": "0"},
    "create_token": {"roles": ("app",), "ttl": 60.0, "app_name": "", "app_uri": "", "max_uses": 0},
    "delete_token": {"token": "0" * 32},
    "create_user": {"name": "mallory", "roles": ("access",), "traits": {}},
    "update_user": {"name": "mallory", "roles": ("editor",), "traits": None},
    "reset_user": {"name": "mallory"},
    "unlock_user": {"name": "mallory"},
    "delete_user": {"name": "mallory"},
    "create_lock": {"target": LockTarget(user="mallory"), "message": "", "ttl": 60.0},
    "delete_lock": {"name": "x"},
    "get_resources": {"kind": "role", "name": "", "secrets": True},
    "put_resource": {"resource": RoleResource(role=Role(name="mine")), "mode": "upsert"},
    "delete_resource": {"kind": "role", "name": "mine"},
    "list_sessions": {"user": "", "limit": 10},
    "end_session": {"id": "0" * 64},
    "end_own_session": {"id": "0" * 64},
    "put_role": {"role": Role(name="mine")},
    "ask_to_join": {"csr": "", "hostname": "", "app": "x", "uri": "http://x", "title": ""},
    "join_answer": {"id": "x"},
    "find_join": {"code": "0000-0000-0000"},
    "decide_join": {"code": "0000-0000-0000", "host_id": "", "approve": True},
    "request_access": {"host": HOST, "reason": "to look"},
    "explain_own": {"host": HOST},
    "approve_request": {"id": "x", "role": "access", "ttl": 3600.0, "answer": ""},
    "deny_request": {"id": "x", "answer": ""},
    "explain_request": {"id": "x"},
    "explain_access": {"user": "x", "app": "x"},
    "create_device_token": {"app": "x", "name": "x", "ttl": 3600.0},
    "revoke_device_token": {"id": "0" * 64},
    "delete_device_token": {"id": "0" * 64},
    "start_probe": {"app": "x", "agent": ""},
    "probe_result": {"id": "x"},
    "probed": {
        "id": "x",
        "report": ProbeReport(app="x", uri="", public="", hostname="", findings=()),
    },
    "create_role": {"role": Role(name="mine")},
    "update_role": {"role": Role(name="mine"), "revision": 1},
    "delete_role": {"name": "mine"},
    "preview_role": {"role": Role(name="mine")},
    "tell_icon": {"app": "x", "icon": b"", "answered": True},
    "own_app_icon": {"app": "grafana"},
    "preview_preference": {"preference": Preference()},
    "set_preference": {"preference": Preference(), "revision": 0},
    "mark_favourite": {"app": "grafana", "favourite": True},
    "check_right": {"kind": "user", "verb": "list"},
    "search_events": {"query": EventQuery(), "cursor": "", "limit": 1},
    "follow_events": {"query": EventQuery(), "cursor": "", "limit": 1},
    "check_events": {"log": "audit", "state": ChainState()},
    "record_requests": {"requests": ()},
    "begin_sso": {**SSO_BROWSER, "connector": "oidc/x"},
    "begin_sso_proof": {**SSO_BROWSER, "secret": "x"},
    "begin_sso_test_visit": {
        "test": "x",
        "browser": "0" * 64,
        "address": "x.test",
        "remote": "192.0.2.1",
    },
    "finish_sso": {
        "path": "/",
        "query": "",
        "browser": "",
        "known": "",
        "remote": "192.0.2.1",
        "user_agent": "",
    },
    "end_sso_sessions": {"connector": "oidc/x", "logout_token": "", "remote": "192.0.2.1"},
    "provider_logout": {"id": "x", "back": ""},
    "begin_sso_test": {"connector": GOOGLE},
    "sso_test": {"id": "x"},
}
KINDS: tuple[IdentityKind | None, ...] = (None, *get_args(IdentityKind))


async def make(api: AuthAPI, call: str) -> str:
    """Make a call; return "denied" when the caller was refused before the call began."""
    try:
        if call == wire.WATCH:
            async with api.watch() as changes:
                await anext(changes)
        else:
            await getattr(api, call)(**ARGUMENTS.get(call, {}))
    except AccessDenied as denied:
        return "denied" if "may not call" in denied.reason else "made"
    except TportError:
        return "made"
    return "made"


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("call", [*CALLERS])
async def test_az05_each_caller_makes_exactly_the_calls_of_the_table(
    world: World, autojump_clock: MockClock, call: str, kind: IdentityKind | None
) -> None:
    expected = "made" if (kind or "anyone") in CALLERS[call] else "denied"
    assert await make(world.caller(kind), call) == expected
    assert ("T3007W" in world.audit.codes()) == (expected == "denied" or (call == "renew")), (
        "a refused caller is written down"
    )


PEOPLE = {"editor": PRESETS["editor"], "auditor": PRESETS["auditor"], "access": PRESETS["access"]}


@pytest.mark.parametrize("role", PEOPLE)
@pytest.mark.parametrize("call", [*CALLERS])
async def test_az05_each_person_makes_exactly_the_calls_that_their_roles_allow(
    world: World, autojump_clock: MockClock, call: str, role: str
) -> None:
    """AZ-05: through a proxy's pages, by the rules of the role as it is now."""
    person = await world.alice("person", roles=(role,))
    world.audit.events.clear()
    # `check_right` is a question about a rule, and judged by it.
    rule = ("user", "list") if call == "check_right" else RULES.get(call, ("", ""))
    expected = "made"
    if rule is not None:
        try:
            check_rule(PEOPLE, (role,), *rule)
        except AccessDenied:
            expected = "denied"

    assert await make(world.proxy.acting_for(person.secret), call) == expected
    assert ("T3007W" in world.audit.codes()) == (expected == "denied")


@pytest.mark.parametrize("kind", [None, "agent", "admin"])
async def test_az05_nobody_but_a_proxy_acts_for_a_person(
    world: World, autojump_clock: MockClock, kind: IdentityKind | None
) -> None:
    editor = await world.alice("person", roles=("editor",))
    for call in CALLERS:
        acting = world.caller(kind).acting_for(editor.secret)
        assert await make(acting, call) == "denied"


async def test_az05_who_is_signed_out_or_lost_the_role_acts_no_more(world: World) -> None:
    editor = await world.alice("person", roles=("editor",))
    acting = world.proxy.acting_for(editor.secret)
    assert await acting.list_users()

    await world.admin.update_user(name="person", roles=("access",), traits=None)
    with pytest.raises(AccessDenied):
        await acting.list_users()
    await world.admin.update_user(name="person", roles=("editor",), traits=None)
    await world.proxy.sign_out(id=editor.session.id)
    with pytest.raises(NotSignedIn):
        await acting.list_users()
    with pytest.raises(NotSignedIn):
        await world.proxy.acting_for("").list_users()


async def test_az05_who_only_knows_a_session_s_id_does_not_act_for_its_person(
    world: World,
) -> None:
    """AZ-05: ids stand in lists and logs; what acts is the cookie's value, seen by one proxy alone."""
    editor = await world.alice("person", roles=("editor",))

    with pytest.raises(NotSignedIn):
        await world.proxy.acting_for(editor.session.id).list_users()


async def test_az05_what_a_person_does_is_written_down_under_their_name(world: World) -> None:
    editor = await world.alice("person", roles=("editor",))

    await world.proxy.acting_for(editor.secret).delete_user(name="person")

    [event] = [event for event in world.audit.events if event.type == "user.delete"]
    assert event.fields["user"] == "person"


async def test_az05_a_certificate_of_another_cluster_makes_no_call_at_all(world: World) -> None:
    identity = Identity(kind="admin", name="admin", cluster="another")
    api = world.service.as_caller(identity, "192.0.2.7")
    for call in CALLERS:
        assert await make(api, call) == "denied"


async def test_az05_a_proxy_reports_for_itself_only(world: World) -> None:
    report = ProxyReport(proxy_id="proxy-2", public_addrs=(), tunnels=())
    with pytest.raises(AccessDenied):
        await world.proxy.report(report=report)


async def test_az05_an_agent_writes_no_events_of_others(world: World) -> None:
    with pytest.raises(AccessDenied):
        await world.agent.emit(events=(event("user.login", user="alice"),))
    for lie in (Event(type="app.access.denied", code="T1000I"), Event(type="x", code="y")):
        with pytest.raises(AccessDenied):
            await world.agent.emit(events=(lie,))
    await world.agent.emit(events=(event("app.access.denied", server_id="somebody else"),))
    [written] = [e for e in world.audit.events if e.type == "app.access.denied"]
    assert written.fields["server_id"] == "agent-1"


async def test_az05_a_proxy_writes_what_happens_in_proxies_and_nothing_that_auth_decides(
    world: World,
) -> None:
    """One that is taken over signs nobody in, in the log either: each event is allowed by name."""
    written = {*PROXY_EVENTS}
    for type_ in CODES:
        told = event(type_)
        if told.type in written:
            await world.proxy.emit(events=(told,))
            continue
        with pytest.raises(AccessDenied):
            await world.proxy.emit(events=(told,))
    assert not written & {
        "user.login",
        "user.create",
        "lock.deleted",
        "cert.create",
        "clock.set_back",
    }


# --- AZ-04: what changes, ends ---------------------------------------------------------------------


async def change_roles(world: World) -> None:
    await world.admin.update_user(name="alice", roles=("auditor",), traits=None)


async def change_traits(world: World) -> None:
    await world.admin.update_user(name="alice", roles=None, traits={"team": ("ops",)})


async def reset(world: World) -> None:
    await world.admin.reset_user(name="alice")


async def delete(world: World) -> None:
    await world.admin.delete_user(name="alice")


async def make_again(world: World) -> None:
    await world.admin.delete_user(name="alice")
    await world.alice()


async def check_nothing_granted_before_counts(
    world: World, change: Callable[[World], Awaitable[None]]
) -> SignedIn:
    alice = await world.alice()
    await world.serve(GRAFANA)
    opened = await world.open(alice)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)

    await change(world)

    with pytest.raises(NotSignedIn):
        await world.proxy.app_session(id=opened.session.id)
    with pytest.raises(NotSignedIn):
        await world.proxy.sign_session(id=opened.session.id)
    if change is not change_traits:  # which leaves a role that opens it: a code is no grant
        with pytest.raises(AccessDenied):
            await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
    return alice


@pytest.mark.parametrize("change", [reset, delete, make_again], ids=lambda f: f.__name__)
async def test_az04_a_reset_or_deletion_ends_every_session(
    world: World, change: Callable[[World], Awaitable[None]]
) -> None:
    alice = await check_nothing_granted_before_counts(world, change)

    with pytest.raises(NotSignedIn):
        await world.proxy.web_session(id=alice.session.id)
    with pytest.raises(NotSignedIn):
        await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)


@pytest.mark.parametrize("change", [change_roles, change_traits], ids=lambda f: f.__name__)
async def test_az04_a_change_of_what_is_granted_ends_app_sessions_but_not_the_sign_in(
    world: World, change: Callable[[World], Awaitable[None]]
) -> None:
    alice = await check_nothing_granted_before_counts(world, change)

    assert (await world.proxy.web_session(id=alice.session.id)).user == "alice"


# --- AG: agents ------------------------------------------------------------------------------------


async def test_ag01_guessed_tokens_are_limited_and_none_joins(world: World) -> None:
    refused = limited = 0
    csr = make_csr(make_key())
    for _ in range(1000):
        try:
            await world.anyone.join(token=secrets.token_hex(16), csr=csr, role="app", hostname="")
        except LimitExceeded:
            limited += 1
        except AccessDenied:
            refused += 1
    assert (refused, limited) == (10, 990)
    assert "TJ002I" not in world.audit.codes()
    assert await world.backend.range("/joins/") == []


async def test_ag01_a_static_token_that_could_be_guessed_stops_the_start() -> None:
    clock = WallClock()
    settings = AuthSettings(cluster=CLUSTER, static_tokens=(StaticToken(secret="a" * 31),))
    cluster = await open_cluster(settings, MemoryBackend(clock), MemoryAudit(), SteadyClock(clock))
    with pytest.raises(ConfigError, match="fewer than 32"):
        AuthService(cluster)


async def test_ag03_an_app_token_makes_agents_limited_to_its_app_and_nothing_else(
    world: World,
) -> None:
    token = await world.admin.create_token(
        roles=("app",), ttl=60, app_name="grafana", app_uri="", max_uses=0
    )
    for role in ("proxy", "auth", "admin", "user"):
        with pytest.raises(AccessDenied, match=f"not for {role}"):
            await world.anyone.join(
                token=token.token,
                csr=make_csr(make_key()),
                role=role,  # type: ignore[arg-type]  # what a liar sends
                hostname="",
            )
        with pytest.raises(InvalidRequest):
            wire.decode_request("join", wire.encode_answer({**ARGUMENTS["join"], "role": role}))
    joined = await world.anyone.join(
        token=token.token, csr=make_csr(make_key()), role="app", hostname=""
    )
    certificate = x509.load_pem_x509_certificate(joined.certificate.encode())
    assert b'"apps":["grafana","dumper"]' in b"".join(
        e.value.value
        for e in certificate.extensions
        if isinstance(e.value, x509.UnrecognizedExtension)
    )
    grafana, jenkins = await world.offer(GRAFANA, JENKINS, pinned=("grafana", "dumper"))
    assert grafana.refused == ""
    assert "only grafana, dumper" in jenkins.refused
    assert "TPA01W" in world.audit.codes()


async def test_ag03_only_the_key_of_a_request_is_used(world: World) -> None:
    """A CSR that asks to be somebody gets what the token says."""
    token = await world.admin.create_token(
        roles=("app",), ttl=60, app_name="grafana", app_uri="", max_uses=0
    )
    wish = Identity(kind="admin", name="root", cluster=CLUSTER)
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]))
        .add_extension(identity_extension(wish), critical=True)
        .sign(load_private_key(make_key()), hashes.SHA256())
    )
    joined = await world.anyone.join(
        token=token.token, csr=csr.public_bytes(Encoding.PEM).decode(), role="app", hostname=""
    )
    text = joined.certificate
    certificate = x509.load_pem_x509_certificate(text.encode())
    assert b"root" not in certificate.tbs_certificate_bytes
    assert b'"admin"' not in certificate.tbs_certificate_bytes


@pytest.mark.parametrize(
    "address",
    [
        PROXY,
        "TPORT.example.com",
        f"{PROXY}.",
        "example.com",
        "com",
        f"a.grafana.{PROXY}",
        f"*.{PROXY}",
        "*",
        "10.0.0.1",
        "[::1]",
        "127.1",
        "2130706433",
        "localhost",
        f"{PROXY}:443",
        f"jenkins.{PROXY}",
        "jira.example.net",
        "Jira2.example.net",
        "jira2.example.net\n",
        "jira2.example.net/..",
        "täst.example.net",
        "",
    ],
)
async def test_ag04_a_rogue_agent_takes_no_address_of_others(world: World, address: str) -> None:
    """With "" the rogue claims the name grafana itself, by another definition."""
    jira = replace(JENKINS, name="jira", public_addr="jira.example.net")
    servers = await world.serve(GRAFANA, JENKINS, jira)
    rogue = replace(GRAFANA, uri="http://evil:1", public_addr=address)
    if address:
        rogue = replace(rogue, name="rogue")
    [judged] = await world.offer(rogue, host="agent-666")
    assert judged.refused
    assert "TPA01W" in world.audit.codes()
    assert await world.admin.list_app_servers() == tuple(
        sorted(servers, key=lambda server: server.app.name)
    )
    alice = await world.alice()
    assert (await world.open(alice)).session.app == "grafana"


async def test_ag04_an_address_two_labels_below_the_proxy_is_refused_with_what_to_take(
    world: World,
) -> None:
    """A wildcard, in DNS or a certificate, stands for one label."""
    deep = replace(JENKINS, public_addr=f"ci.team.{PROXY}")
    [judged] = await world.offer(deep)
    assert "more than one label below" in judged.refused
    assert judged.refused.endswith(f"take ci.{PROXY}")

    report = ProxyReport(proxy_id="p2", public_addrs=(f"team.{PROXY}:3080",), tunnels=())
    await world.caller("proxy", name="p2").report(report=report)
    [judged] = await world.offer(deep)
    assert judged.refused == ""  # one label below another of the proxies' names


async def test_ag04_a_name_whose_address_is_taken_is_refused_too(world: World) -> None:
    taking = replace(JENKINS, public_addr=f"metrics.{PROXY}")
    await world.serve(taking)
    [judged] = await world.offer(replace(GRAFANA, name="metrics"), host="agent-2")
    assert "belongs to application 'jenkins'" in judged.refused


async def test_ag04_a_pinned_agent_takes_no_other_name_below_the_proxy(world: World) -> None:
    wish = replace(GRAFANA, public_addr=f"login.{PROXY}")
    [judged] = await world.offer(wish, pinned=("grafana", "dumper"))
    assert "join token" in judged.refused


# --- AUTH: people ------------------------------------------------------------------------------------


@pytest.mark.parametrize("locks", [1, 35, 36, 2000])
async def test_auth02_who_guesses_on_for_a_month_is_kept_out_as_on_the_first_day(
    world: World, locks: int
) -> None:
    """AUTH-02: each lock lasts twice as long as the one before, to a bound, however many they are."""
    await world.alice()
    kept = FailedLogins(count=MAX_LOGIN_FAILURES - 1, locks=locks)
    await world.service.cluster.stores.failures.put("alice", kept)
    for password in ("wrong horse battery staple", PASSWORD):  # the right one, but too late
        with pytest.raises(AccessDenied):
            await world.sign_in(password=password)
    [alice] = await world.admin.list_users()
    life = timedelta(hours=1 if locks == 1 else 16)
    assert alice.locked_until == world.clock.now + life


async def test_auth04_every_failure_has_the_same_words_at_the_same_time(
    world: World, autojump_clock: MockClock
) -> None:
    """Unknown, wrong, without a password yet, locked, no name at all: nobody can tell them apart.

    In trio's time here; `test_auth04_the_clock_tells_nothing` looks at the wall's.
    """
    await world.alice()
    await world.alice("carol")
    await world.admin.create_user(name="bob", roles=("access",), traits={})
    for _ in range(5):
        with pytest.raises(AccessDenied):
            await world.sign_in("carol", "wrong")
    seen = set()
    for name, password in (
        ("nobody", PASSWORD),
        ("alice", "wrong"),
        ("bob", PASSWORD),
        ("carol", PASSWORD),
        ("carol", "wrong"),
        ("/", PASSWORD),
        ("alice", "x" * 100_000),
    ):
        with pytest.raises(AccessDenied) as denied:
            await world.sign_in(name, password)
        seen.add(wire.encode_error(denied.value))
    assert len(seen) == 1


async def test_auth04_the_clock_tells_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """A failure is answered at a fixed time after it was asked, whatever was looked up for it.

    Where the hash alone takes longer, at a fixed time after that.
    """
    await world.alice()
    takes = 0.0

    async def run(hash_: Callable[[], T]) -> T:
        await trio.sleep(takes)  # as in a thread, and no real time
        return hash_()

    async def count(self: Failures, name: str, remote: str) -> None:
        await trio.sleep(0.1)  # a disk has much to do
        await counts(self, name, remote)

    counts = Failures.count
    monkeypatch.setattr(world.service.hasher, "run", run)
    monkeypatch.setattr(Failures, "count", count)
    took = set[tuple[float, float]]()
    for number, duration in enumerate((0.0, 0.1, 0.4, 2.0)):
        takes = duration
        for name in ("alice", "nobody"):
            started = trio.current_time()
            with pytest.raises(AccessDenied):
                await world.proxy.sign_in(
                    username=name, password="wrong", remote=f"192.0.2.{number}", user_agent=""
                )
            took.add((duration, round(trio.current_time() - started, 6)))
    assert took == {
        (0.0, FAILURE_TIME),
        (0.1, FAILURE_TIME),
        (0.4, 0.4 + AFTER_HASH),
        (2.0, 2.0 + AFTER_HASH),
    }


async def test_auth07_an_invite_is_spent_once_however_it_is_tried(world: World) -> None:
    invite = await world.admin.create_user(name="alice", roles=("access",), traits={})
    outcomes: list[str] = []

    async def accept() -> None:
        try:
            await world.accept(invite.url)
            outcomes.append("in")
        except NotFound:
            outcomes.append("gone")

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(accept)
    assert sorted(outcomes) == ["gone"] * 4 + ["in"]
    with pytest.raises(NotFound):
        await world.accept(invite.url)
    with pytest.raises(NotFound):
        await world.proxy.invite(token=invite.url.rpartition("/")[2])


async def test_auth07_a_newer_invite_a_deletion_and_a_namesake_kill_the_older_link(
    world: World,
) -> None:
    first = await world.admin.create_user(name="alice", roles=("access",), traits={})
    second = await world.admin.reset_user(name="alice")
    with pytest.raises(NotFound):
        await world.accept(first.url)
    await world.admin.delete_user(name="alice")
    with pytest.raises(NotFound):
        await world.accept(second.url)
    await world.admin.create_user(name="alice", roles=("editor",), traits={})
    with pytest.raises(NotFound):
        await world.accept(second.url)
    assert not any(info.has_password for info in await world.admin.list_users())


async def test_auth07_az11_each_kind_of_secret_works_at_its_own_door_only(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    held = {
        "invite": (
            await world.admin.create_user(name="bob", roles=("access",), traits={})
        ).url.rpartition("/")[2],
        "join": (
            await world.admin.create_token(
                roles=("app",), ttl=60, app_name="", app_uri="", max_uses=0
            )
        ).token.partition(".")[0],
        "code": (
            await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
        ).code,
        "cookie": alice.secret,
    }
    csr = make_csr(make_key())
    for number, (kind, secret) in enumerate(held.items()):
        anyone = world.caller(None, remote=f"192.0.2.{number}")
        doors: dict[str, Callable[[], Awaitable[object]]] = {
            "invite": lambda s=secret: world.proxy.invite(token=s),  # type: ignore[misc]
            "join": lambda s=secret, a=anyone: a.join(  # type: ignore[misc]
                token=s, csr=csr, role="app", hostname=""
            ),
            "code": lambda s=secret: world.proxy.redeem(  # type: ignore[misc]
                code=s, state=STATE, host=HOST, remote=""
            ),
        }
        for door, knock in doors.items():
            if door == kind:
                await knock()
            else:
                with pytest.raises((AccessDenied, NotFound, InvalidRequest)):
                    await knock()


# --- WEB: browsers ---------------------------------------------------------------------------------


async def test_web06_a_code_is_for_the_browser_that_began(world: World) -> None:
    """State of another browser, or none, is refused, and burns the code; parallel tabs both work."""
    alice = await world.alice()
    await world.serve(GRAFANA)
    for state in ("f" * 64, "", STATE.upper(), "é"):
        code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
        for tried in (state, STATE):
            with pytest.raises(AccessDenied):
                await world.proxy.redeem(code=code.code, state=tried, host=HOST, remote="")
    tabs = [
        await world.proxy.launch(web_session=alice.session.id, host=HOST, state=state, age=0)
        for state in ("1" * 64, "2" * 64)
    ]
    for tab, state in zip(tabs, ("1" * 64, "2" * 64), strict=True):
        await world.proxy.redeem(code=tab.code, state=state, host=HOST, remote="")


async def test_web07_a_session_is_for_one_app_at_one_host(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA, JENKINS)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    with pytest.raises(AccessDenied):
        await world.proxy.redeem(code=code.code, state=STATE, host=f"jenkins.{PROXY}", remote="")
    opened = await world.open(alice)
    session = await world.proxy.app_session(id=opened.session.id)
    assert (session.app, session.host) == ("grafana", HOST)


async def test_web08_a_code_that_comes_twice_ends_the_session_it_became(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    opened = await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
    with pytest.raises(AccessDenied):
        await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
    with pytest.raises(NotSignedIn):
        await world.proxy.app_session(id=opened.session.id)


async def test_web08_no_secret_of_the_exchange_is_stored_or_written_down(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    code = await world.proxy.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
    opened = await world.proxy.redeem(code=code.code, state=STATE, host=HOST, remote="")
    kept = repr(world.audit.events).encode() + b"".join(
        item.key.encode() + item.value for item in await world.backend.range("/")
    )
    for secret in (alice.secret, code.code, opened.secret):
        assert secret.encode() not in kept


async def test_tls08_knowing_a_session_id_grants_nothing(world: World) -> None:
    """Ids are hashes of secrets: they are in lists, logs and signed sessions, and open no door.

    Calls that take one are proxies' alone, who have seen the cookie: an administrator makes none.
    """
    alice = await world.alice()
    await world.serve(GRAFANA)
    opened = await world.open(alice)
    for knock in (opened.session.id, alice.session.id):
        with pytest.raises(AccessDenied):
            await world.proxy.redeem(code=knock, state=STATE, host=HOST, remote="")
    editor = world.proxy.acting_for((await world.alice("erin", roles=("editor", "auditor"))).secret)
    without = (world.anyone, world.agent, world.caller("user", name="mallory"), world.admin, editor)
    for caller in without:
        with pytest.raises(AccessDenied):
            await caller.launch(web_session=alice.session.id, host=HOST, state=STATE, age=0)
        for call in ("app_session", "sign_session", "end_app_session", "web_session"):
            with pytest.raises(AccessDenied):
                await getattr(caller, call)(id=opened.session.id)
    assert "T3007W" in world.audit.codes()


async def test_ag_04_an_agent_tells_of_its_own_applications_alone(world: World) -> None:
    """AG-04: what it says of another's changes nothing there, and what its token denies it is not kept."""
    own = await world.offer(GRAFANA, host="agent-1")
    others = await world.offer(JENKINS, host="agent-2")
    await world.tunnel(*own, *others)
    down = AppHealth(up=False, since=world.clock.now, cause="gone")
    identity = Identity(kind="agent", name="agent-2", cluster=CLUSTER, apps=("jenkins",))
    pinned = world.service.as_caller(identity, "192.0.2.7")

    await world.agent.report_health(apps={"grafana": down, "jenkins": down, "none": down})
    await pinned.report_health(apps={"grafana": down})

    told = {one.app.name: one.health for one in await world.admin.list_app_servers()}
    assert told == {"grafana": down, "jenkins": None}
    for caller in (world.proxy, world.admin, world.anyone):
        with pytest.raises(AccessDenied):
            await caller.report_health(apps={"grafana": down})
