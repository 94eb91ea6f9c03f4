"""What reaches an application, and what comes back from it: HTTP-12, -13, -14, -15, AZ-09, AZ-10."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.agent.test_rewrite import PUBLIC, app, credential, sent
from tport.engine.agent.rewrite import Rewriter
from tport.engine.errors import InvalidRequest
from tport.engine.proto.framing import NO_BODY
from tport.engine.proto.head import parse_request_head
from tport.engine.proto.head_writer import write_request_head
from tport.engine.proto.sieve import read_lines

ALIASES = [
    b"x_forwarded_for",
    b"x.forwarded.for",
    b"x-forwarded_for",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-prefix",
    b"forwarded",
    b"x-real-ip",
    b"x_real_ip",
    b"teleport_jwt_assertion",
    b"teleport.jwt.assertion",
    b"teleport-jwt-assertion",
    b"x-teleport-jwt",
    b"cf_access_token",
    b"cf-access-token",
    b"x-client-cert",
    b"x-ssl-client-cn",
    b"proxy",
    b"authorization_",
    b"x-external-trait",
    b"x_external_trait",
    b"x.external.trait",
    b"x!external!trait",
    b"x-custom-header",
    b"x_custom_header",
    b"host",
    b"host_",
]

CONFIGURED = app(
    "X-External-Trait: {{external.env}}", "X-Custom-Header: ours", "Authorization: {{internal.jwt}}"
)


@pytest.mark.parametrize("name", ALIASES)
def test_http_12_no_spelling_of_our_headers_gets_by(name: bytes) -> None:
    received = sent(CONFIGURED, [(name, b"forged")])

    assert all(b"forged" not in values for values in received.values())


def test_http_13_a_template_without_its_trait_removes_the_clients_header() -> None:
    received = sent(CONFIGURED, [(b"x-external-trait", b"admin")], session=credential({}))

    assert b"x-external-trait" not in received


def test_http_13_without_an_assertion_the_clients_is_still_removed() -> None:
    forged = [(b"teleport-jwt-assertion", b"forged"), (b"authorization", b"forged")]

    received = sent(CONFIGURED, forged, session=credential(jwt=""))

    assert b"teleport-jwt-assertion" not in received
    assert b"authorization" not in received


def test_http_14_the_clients_address_is_the_sockets_and_never_a_headers() -> None:
    received = sent(app(), [(b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-proto", b"http")])

    assert received[b"x-forwarded-for"] == [b"192.0.2.7"]
    assert received[b"x-forwarded-proto"] == [b"https"]


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/sub/../admin",
        "/sub/..;/admin",
        "/sub/..;a=b/admin",
        "/sub/%2e%2e/admin",
        "/sub/.%2E/admin",
        "/sub/%252e%252e/admin",
        "/sub%2f..%2fadmin",
        "/sub%252f%252e%252e%252fadmin",
        "/sub/..%3b/admin",
        "/sub/..%253b/admin",
        "/sub/..\\admin",
        "/sub/%5c../admin",
        "/sub/..%5cadmin",
    ],
)
def test_http_15_with_a_sub_directory_no_path_climbs_in_any_coat(path: str) -> None:
    with pytest.raises(InvalidRequest):
        Rewriter(app(uri="http://h/sub/"), hostname="box").target_for(path.encode())


def test_az_09_an_application_that_echoes_its_request_does_not_give_the_assertion_away() -> None:
    rewriter = Rewriter(CONFIGURED, hostname="box")
    request = rewriter.request(b"", credential(), remote="192.0.2.7", public=PUBLIC)

    answer = rewriter.response(200, read_lines(request.lines), public=PUBLIC)

    assert answer.count(b"x-forwarded") == 0  # reserved, too
    assert answer.count(b"eyJ") == 0


@pytest.mark.parametrize(
    "value",
    [
        "x\r\nTeleport-Jwt-Assertion: y",
        "x\nX: y",
        "x\0",
        "x\x7f",
        "{{internal.jwt}}",
        "{0.__class__}",
        "é",
        " ",
        "v" * 1_000_000,
    ],
)
def test_az_10_whatever_a_trait_holds_the_request_stays_well_formed(value: str) -> None:
    session = credential({"env": (value,)})
    rewritten = Rewriter(app("X-Env: a{{external.env}}"), hostname="box").request(
        b"", session, remote="192.0.2.7", public=PUBLIC
    )

    values = [value for name, value in read_lines(rewritten.lines) if name == b"x-env"]
    if values:
        assert values == [f"a{value}".strip(" ").encode()]
    else:
        assert rewritten.skipped
        assert value[:20] not in rewritten.skipped[0]
    head = write_request_head(b"GET", b"/", rewritten.lines, NO_BODY)
    parsed = parse_request_head(head)
    assert parsed.values(b"teleport-jwt-assertion") == [b"eyJ.a.b"]


def test_az_10_ten_thousand_values_are_none() -> None:
    session = credential({"env": tuple(map(str, range(10_000)))})

    assert b"x-env" not in sent(app("X-Env: {{external.env}}"), session=session)


@pytest.mark.parametrize(
    "name",
    [
        "Teleport-Jwt-Assertion",
        "x_teleport_jwt",
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-Ip",
        "Cf-Access-Token",
        "Tport-Authorization",
    ],
)
def test_az_10_reserved_names_are_refused_again_where_they_would_be_sent(name: str) -> None:
    with pytest.raises(InvalidRequest):
        Rewriter(app(f"{name}: x"), hostname="box")


@given(
    trait=st.text(max_size=20),
    remote=st.text(max_size=10),
    value=st.binary(max_size=10),
)
def test_az_10_no_line_break_ever_gets_into_a_head(trait: str, remote: str, value: bytes) -> None:
    try:
        rewritten = Rewriter(app("X-Env: {{external.env}}"), hostname="box").request(
            b"accept: %b\r\n" % value, credential({"env": (trait,)}), remote=remote, public=PUBLIC
        )
    except InvalidRequest:
        return
    for line in rewritten.lines.split(b"\r\n"):
        assert not re.search(rb"[\r\n\0]", line)
