from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.fakes import START
from tport.engine.agent import rewrite as rewrite_module
from tport.engine.agent.rewrite import Redirect, Rewriter, Sessions
from tport.engine.errors import InvalidRequest
from tport.engine.proto.sieve import read_lines, write_lines
from tport.engine.types.app import App, Header, Rewrite
from tport.engine.types.session import SessionCredential

PUBLIC = "grafana.tport.localhost:3080"
Field = tuple[bytes, bytes]


def app(*headers: str, uri: str = "http://localhost:3000", redirect: Sequence[str] = ()) -> App:
    entries = (text.partition(":") for text in headers)
    return App(
        name="grafana",
        uri=uri,
        rewrite=Rewrite(
            redirect=tuple(redirect),
            headers=tuple(Header(name, value.strip()) for name, _, value in entries),
        ),
    )


def credential(
    traits: Mapping[str, tuple[str, ...]] | None = None, jwt: str = "eyJ.a.b"
) -> SessionCredential:
    return SessionCredential(
        sid="s1",
        user="alice",
        user_key="k",
        roles=("access",),
        traits=traits or {},
        app="grafana",
        host="grafana.tport.localhost",
        cluster="tport.localhost",
        epoch=1,
        issued=START,
        expires=START + timedelta(minutes=5),
        session_expires=START + timedelta(hours=1),
        jwt=jwt,
    )


def sent(
    app: App,
    headers: Sequence[Field] = (),
    *,
    session: SessionCredential | None = None,
    remote: str = "192.0.2.7",
    public: str = PUBLIC,
) -> dict[bytes, list[bytes]]:
    """What the application receives, values by name."""
    rewritten = Rewriter(app, hostname="box").request(
        write_lines(headers), session or credential(), remote=remote, public=public
    )
    received: dict[bytes, list[bytes]] = {}
    for name, value in read_lines(rewritten.lines):
        received.setdefault(name, []).append(value)
    return received


def test_the_application_learns_who_calls_and_by_which_address() -> None:
    assert sent(app(), [(b"accept", b"*/*"), (b"origin", b"https://" + PUBLIC.encode())]) == {
        b"host": [b"localhost:3000"],
        b"accept": [b"*/*"],
        b"origin": [b"https://" + PUBLIC.encode()],
        b"x-forwarded-for": [b"192.0.2.7"],
        b"x-real-ip": [b"192.0.2.7"],
        b"x-forwarded-host": [PUBLIC.encode()],
        b"x-forwarded-port": [b"3080"],
        b"x-forwarded-proto": [b"https"],
        b"x-forwarded-ssl": [b"on"],
        b"x-forwarded-server": [b"box"],
        b"teleport-jwt-assertion": [b"eyJ.a.b"],
    }


def test_without_a_port_the_public_address_is_at_443() -> None:
    received = sent(app(), public="grafana.example.com", remote="fe80::1%eth0")

    assert received[b"x-forwarded-port"] == [b"443"]
    assert received[b"x-real-ip"] == [b"fe80::1"]


def test_headers_keep_their_order_and_repeats() -> None:
    headers = [(b"cookie", b"a=1"), (b"accept", b"x"), (b"cookie", b"b=2")]

    rewritten = Rewriter(app(), hostname="box").request(
        write_lines(headers), credential(), remote="::1", public=PUBLIC
    )

    assert read_lines(rewritten.lines)[1:4] == headers


def test_configured_headers_are_rendered_for_the_session() -> None:
    received = sent(
        app(
            "X-Custom-Header: example",
            "X-Internal-Trait: {{internal.logins}}",
            "X-External-Trait: {{external.env}}",
            "Authorization: Bearer {{internal.jwt}}",
            "Remote-User: {{internal.username}}",
            "Host: dashboard.example.com",
        ),
        [(b"authorization", b"Basic x"), (b"x-custom-header", b"mine")],
        session=credential({"logins": ("root", "ubuntu"), "env": ("prod",)}),
    )

    assert received[b"x-custom-header"] == [b"example"]
    assert received[b"x-internal-trait"] == [b"root", b"ubuntu"]
    assert received[b"x-external-trait"] == [b"prod"]
    assert received[b"authorization"] == [b"Bearer eyJ.a.b"]
    assert received[b"remote-user"] == [b"alice"]
    assert received[b"host"] == [b"dashboard.example.com"]


def test_of_two_entries_of_one_name_the_last_wins() -> None:
    assert sent(app("X-A: 1", "x-a: 2"))[b"x-a"] == [b"2"]
    assert b"x-a" not in sent(app("X-A: 1", "X-A: {{external.missing}}"))
    assert sent(app("X-A: {{external.missing}}", "X-A: 2"))[b"x-a"] == [b"2"]


def test_what_was_left_out_is_told_once_per_credential() -> None:
    rewriter = Rewriter(app("X-Env: {{external.env}}"), hostname="box")
    first, renewed = credential(), credential()

    told = [
        rewriter.request(b"", session, remote="::1", public=PUBLIC).skipped
        for session in (first, first, renewed)
    ]

    assert told == [("X-Env: external.env has no value",), (), told[0]]


def test_a_renewed_credential_is_rendered_anew() -> None:
    rewriter = Rewriter(app("X-Env: {{external.env}}"), hostname="box")

    for env in ("dev", "prod"):
        rewritten = rewriter.request(b"", credential({"env": (env,)}), remote="::1", public=PUBLIC)
        assert (b"x-env", env.encode()) in read_lines(rewritten.lines)


@pytest.mark.parametrize(
    "header",
    [
        "Host: {{external.host}}",
        "Host: a b",
        "Host:",
        "Content-Length: 5",
        "Connection: close",
        "Transfer_Encoding: chunked",
        "X Bad: 1",
        "X-Bad: {{external.env",
        "X-Bad: é",
        "X-Bad: a\r\nX-Real-Ip: 1",
        ": 1",
    ],
)
def test_a_header_that_cannot_be_meant_makes_the_application_red(header: str) -> None:
    with pytest.raises(InvalidRequest):
        Rewriter(app(header), hostname="box")


@pytest.mark.parametrize(
    "uri",
    [
        "tcp://localhost:1",
        "http://",
        "http://u:p@localhost",
        "http://localhost:99999",
        "http://localhost:0",
        "http://local host",
        "http://localhost\r\n",
        "http://localhost//evil.com/",
        "//localhost",
        "http://é",
    ],
)
def test_a_uri_that_cannot_be_served_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest):
        Rewriter(app(uri=uri), hostname="box")


# --- Targets -----------------------------------------------------------------------------------

K8S = "http://10.0.1.60:8001/api/v1/ns/https:dash:/proxy/#/overview?namespace=default"


@given(st.binary(max_size=60))
def test_a_target_goes_on_byte_for_byte(path: bytes) -> None:
    target = b"/" + path

    for uri in ("http://localhost:3000", "http://localhost:3000/"):
        assert Rewriter(app(uri=uri), hostname="box").target_for(target) == target


@pytest.mark.parametrize(
    ("uri", "target", "location"),
    [
        ("http://h/sub", b"/", b"/sub"),
        ("http://h/sub/", b"/", b"/sub/"),
        ("http://h/sub/", b"/?a=b&c", b"/sub/?a=b&c"),
        ("http://h/sub/?x=1", b"/", b"/sub/?x=1"),
        ("http://h/sub/?x=1", b"/?y=2", b"/sub/?y=2"),
        (K8S, b"/", b"/api/v1/ns/https:dash:/proxy/#/overview?namespace=default"),
    ],
)
def test_the_root_of_an_application_in_a_sub_directory_leads_there(
    uri: str, target: bytes, location: bytes
) -> None:
    assert Rewriter(app(uri=uri), hostname="box").target_for(target) == Redirect(location)


def test_other_paths_beside_a_sub_directory_are_not_prefixed() -> None:
    rewriter = Rewriter(app(uri="http://h/sub/"), hostname="box")

    for target in (b"/sub/x?..=1", b"/static/a.css", b"/a/...", b"/a..b", b"/sub/%2e%2e%2e"):
        assert rewriter.target_for(target) == target


# --- Location ------------------------------------------------------------------------------------


def location(value: str, *, status: int = 302, **definition: object) -> str:
    made = app(**definition)  # type: ignore[arg-type]  # keyword arguments of `app`
    lines = Rewriter(made, hostname="box").response(
        status, [(b"location", value.encode())], public=PUBLIC
    )
    [(_, rewritten)] = read_lines(lines)
    return rewritten.decode()


@pytest.mark.parametrize(
    "value",
    [
        "http://jenkins.internal.dev/login?x=1#f",
        "https://JENKINS.internal.dev:8443/login?x=1#f",
        "//jenkins.internal.dev/login?x=1#f",
        "http://localhost:3000/login?x=1#f",
    ],
)
def test_a_listed_host_and_the_uris_own_become_the_public_address(value: str) -> None:
    rewritten = location(value, redirect=["jenkins.internal.dev"])

    assert rewritten == f"https://{PUBLIC}/login?x=1#f"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "/login",
        "login",
        "?a=b",
        "http://localhost:3001/",  # another server of that machine
        "http://localhost/",
        "http://169.254.169.254/",
        "http://jenkins.internal.dev.evil.com/",
        "http://jenkins.internal.dev@evil.com/",
        "http://jenkins.internal.dev\\.evil.com/",
        "http:jenkins.internal.dev/",
        "ftp://jenkins.internal.dev/",
        "javascript://jenkins.internal.dev/",
    ],
)
def test_any_other_location_stays_as_it_is(value: str) -> None:
    """AG-08: an answer is passed on, not followed, and never gains a host that isn't ours."""
    assert location(value, redirect=["jenkins.internal.dev"]) == value


def test_the_port_of_a_uri_without_one_is_its_schemes() -> None:
    for value in ("http://app/x", "http://app:80/x", "//app/x"):
        assert location(value, uri="http://app") == f"https://{PUBLIC}/x"
    assert location("https://app/x", uri="http://app") == "https://app/x"
    assert location("http://[::1]:8080/x", uri="http://[::1]:8080") == f"https://{PUBLIC}/x"


def test_an_application_told_its_public_host_need_not_know_the_port_or_scheme() -> None:
    made = app("Host: grafana.tport.localhost")
    rewriter = Rewriter(made, hostname="box")

    for status, expected in (
        (201, f"https://{PUBLIC}/x"),
        (200, "http://grafana.tport.localhost/x"),
    ):
        answer = rewriter.response(
            status, [(b"location", b"http://grafana.tport.localhost/x")], public=PUBLIC
        )
        assert read_lines(answer) == [(b"location", expected.encode())]


def test_no_location_is_made_up() -> None:
    answer = Rewriter(app(), hostname="box").response(304, [(b"etag", b"x")], public=PUBLIC)
    assert read_lines(answer) == [(b"etag", b"x")]


def test_an_answer_keeps_its_cookies_and_loses_what_would_harm_others() -> None:
    answer = Rewriter(app("Authorization: Bearer {{internal.jwt}}"), hostname="box").response(
        200,
        [
            (b"set-cookie", b"grafana=1; Path=/"),
            (b"set-cookie", b"__Host-tport_app=evil"),
            (b"set-cookie", b" __HOST-TPORT_web_x=evil"),
            (b"clear-site-data", b'"*"'),
            (b"alt-svc", b'h3=":443"'),
            (b"set-cookie", b"b=2"),
            (b"x_custom", b"kept"),
        ],
        public=PUBLIC,
    )

    assert read_lines(answer) == [
        (b"set-cookie", b"grafana=1; Path=/"),
        (b"set-cookie", b"b=2"),
        (b"x_custom", b"kept"),
    ]


@pytest.mark.parametrize(
    "path", [b"/grafana/../x", b"/grafana/%2e%2e/x", b"/grafana/%252e%252e/x", b"/grafana/..;a=1/x"]
)
def test_no_path_climbs_out_of_an_application_that_has_one(path: bytes) -> None:
    """HTTP-15: raw, decoded, decoded twice, with parameters."""
    below = Rewriter(app(uri="http://localhost:3000/grafana"), hostname="box")
    with pytest.raises(InvalidRequest, match=r"'\.\.'"):
        below.target_for(path)

    assert Rewriter(app(), hostname="box").target_for(path) == path


@pytest.mark.parametrize("public", ["bücher.test", "a.test\r\nx: y"])
def test_an_address_that_no_header_can_hold_is_refused(public: str) -> None:
    with pytest.raises(InvalidRequest, match="not printable ASCII"):
        sent(app(), public=public)


def test_what_is_remembered_of_sessions_and_names_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rewrite_module, "MAX_NAMES", 2)
    monkeypatch.setattr(rewrite_module, "READY_SESSIONS", 2)
    rewriter = Rewriter(app("X-User: {{internal.logins}}"), hostname="box")
    for number in range(5):
        session = replace(credential(), sid=f"s{number}")
        block = write_lines([(f"x-{number}".encode(), b"kept")])
        rewritten = rewriter.request(block, session, remote="192.0.2.7", public=PUBLIC)
        assert (f"x-{number}".encode(), b"kept") in read_lines(rewritten.lines)

    assert list(rewriter._sessions) == ["s3", "s4"]


def test_what_was_made_for_a_session_is_bounded_for_all_applications_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what one application's rules made of a session is nothing to another's."""
    monkeypatch.setattr(rewrite_module, "READY_SESSIONS", 3)
    sessions = Sessions()
    one, two = (
        Rewriter(app(f"X-By: {by}"), hostname="box", sessions=sessions) for by in ("one", "two")
    )
    for number in range(5):
        session = replace(credential(), sid=f"s{number}")
        for rewriter, by in ((one, b"one"), (two, b"two"), (one, b"one")):
            rewritten = rewriter.request(b"", session, remote="192.0.2.7", public=PUBLIC)
            assert (b"x-by", by) in read_lines(rewritten.lines)

    assert list(sessions) == ["s2", "s3", "s4"]
