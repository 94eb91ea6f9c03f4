"""What was seen of an application, and what people are told of it: each sight has its words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tport.engine.agent.findings import judge
from tport.engine.agent.observed import Failed, Observed, Seen
from tport.engine.config.known_apps import KnownApp
from tport.engine.types.app import App, Rewrite, UpstreamTls
from tport.engine.types.probe import Proposal

URI = "http://localhost:3000"
OWN, PUBLIC = "localhost:3000", "grafana.example.com"
APP = App(name="grafana", uri=URI)
KNOWN = KnownApp(name="grafana", title="Grafana", port=3000)
GONE = Failed(problem="connection refused", hint="is it started?")


def seen(status: int = 200, target: str = "/", **more: Any) -> Seen:
    headers = tuple((k.encode(), v.encode()) for k, v in more.pop("headers", {}).items())
    return Seen(target=target, status=status, headers=headers, **more)


def observed(**changes: Any) -> Observed:
    return replace(Observed(uri=URI, first=seen(), landing=seen()), **changes)


def found(
    check: str, what: Observed, *, app: App = APP, known: KnownApp | None = None
) -> tuple[str, str]:
    """Return verdict, and all that is said, of the one finding of this check; "": there is none."""
    report = judge(app, PUBLIC, what, known, hostname="agent-host")
    one = [each for each in report.findings if each.check == check]
    return (one[0].verdict, f"{one[0].saw}; {one[0].advice}") if one else ("", "")


def proposed(what: Observed, *, app: App = APP, known: KnownApp | None = None) -> Proposal:
    return judge(app, PUBLIC, what, known, hostname="agent-host").proposal


@pytest.mark.parametrize(
    ("page", "verdict", "saw"),
    [
        (seen(), "ok", "the page is at / (200)"),
        (seen(401), "ok", "/ wants its own sign-in (401)"),
        (seen(403), "ok", "/ wants its own sign-in (403)"),
        (seen(404), "note", "/ answers 404"),
        (seen(500), "fails", "/ answers 500"),
        (seen(seconds=2.5), "note", "the page took 2.5 s"),
    ],
)
def test_a_page_is_told_by_what_people_will_see(page: Seen, verdict: str, saw: str) -> None:
    said = found("page", observed(landing=page))

    assert said[0] == verdict
    assert saw in said[1]


def test_nothing_more_is_said_of_who_does_not_answer() -> None:
    report = judge(APP, PUBLIC, observed(first=GONE, landing=None), None, hostname="agent-host")

    assert [(each.check, each.verdict, each.advice) for each in report.findings] == [
        ("connection", "fails", "is it started?")
    ]
    assert not report.proposal
    assert report.title == ""


def test_an_unverified_certificate_is_passed_over_only_on_the_machine_itself() -> None:
    """TLS-05: elsewhere somebody could stand in between; and who named an authority meant it."""
    problem = Failed(problem="the certificate does not verify: self-signed")

    def is_proposed(uri: str, ca_file: str = "") -> bool:
        app = App(name="grafana", uri=uri, tls=UpstreamTls(ca_file=ca_file))
        what = Observed(uri=uri, first=problem)
        return proposed(what, app=app).insecure_skip_verify

    assert is_proposed("https://localhost:3000")
    assert not is_proposed("https://10.0.0.7:3000")
    assert not is_proposed("https://localhost:3000", ca_file="/etc/ca.pem")


@pytest.mark.parametrize("path", ["/app", "/app/"])
def test_a_sub_directory_that_is_configured_is_told_and_stays(path: str) -> None:
    what = observed(uri=URI + path)

    verdict, said = found("path", what, app=App(name="grafana", uri=URI + path))

    assert verdict == "ok"
    assert f"/ leads people to {path}" in said


@pytest.mark.parametrize(
    ("reply", "is_moved"),
    [
        (seen(200, "/lab"), True),
        (seen(401, "/lab"), True),
        (seen(404, "/lab"), False),
        (GONE, False),
    ],
)
def test_where_its_kind_lives_is_proposed_if_something_is_there(
    reply: Seen | Failed, is_moved: bool
) -> None:
    what = observed(landing=seen(404), known_path=reply)

    assert (proposed(what).uri == f"{URI}/lab") == is_moved


@pytest.mark.parametrize(
    ("pages", "wanted"),
    [
        ({OWN: seen(), PUBLIC: seen()}, ""),
        ({OWN: seen(), PUBLIC: seen(421)}, ""),  # its own, which it gets anyhow
        ({OWN: seen(400), PUBLIC: seen()}, PUBLIC),
        ({OWN: GONE, PUBLIC: seen()}, PUBLIC),
        ({OWN: seen(500), PUBLIC: seen(500)}, ""),
        ({OWN: seen(500), PUBLIC: GONE}, ""),
        ({OWN: seen(401), PUBLIC: seen()}, ""),  # a Host that spares the sign-in
        ({OWN: seen()}, ""),
    ],
)
def test_the_host_that_it_likes_is_proposed_and_none_that_spares_a_sign_in(
    pages: dict[str, Seen | Failed], wanted: str
) -> None:
    assert proposed(observed(pages=pages)).host == wanted


@pytest.mark.parametrize(("host", "wanted"), [("public", PUBLIC), ("uri", ""), ("", "")])
def test_where_nothing_tells_its_own_project_is_believed(host: Any, wanted: str) -> None:
    known = KnownApp(name="grafana", title="Grafana", port=3000, host=host)

    assert proposed(observed(), known=known).host == wanted


@pytest.mark.parametrize("replies", ["sockets", "posts"])
def test_an_application_that_compares_origin_with_host_gets_the_public_host(replies: str) -> None:
    what = observed(**{replies: {OWN: seen(403), PUBLIC: seen(101)}})

    verdict, said = found("host", what)

    assert verdict == "change"
    assert "compares Origin with Host" in said
    assert proposed(what).host == PUBLIC


@pytest.mark.parametrize(
    ("at_home", "away", "verdict"),
    [
        (seen(101), seen(101), "ok"),
        (seen(101), seen(403), "fails"),
        (seen(101), GONE, "fails"),
        (seen(101), seen(302), "ok"),  # another answer, and no refusal
        (GONE, seen(403), "ok"),  # it works nowhere, so that it means nothing
        (None, seen(403), "ok"),
        (seen(101), None, "ok"),
    ],
)
def test_who_refuses_the_public_origin_whatever_the_host_is_told_what_to_allow(
    at_home: Seen | Failed | None, away: Seen | Failed | None, verdict: str
) -> None:
    sockets = {} if away is None else {OWN: away}

    said = found("origin", observed(socket_at_home=at_home, sockets=sockets))

    assert said[0] == verdict
    assert (f"add https://{PUBLIC} to the origins" in said[1]) == (verdict == "fails")


@pytest.mark.parametrize(
    ("location", "verdict", "saw"),
    [
        ("/login", "ok", "a path of its own"),
        (f"https://{PUBLIC}/login", "ok", "is made public"),
        (f"{URI}/login", "ok", "is made public"),
        ("http://127.0.0.1:9000/x", "change", "rewrite.redirect: 127.0.0.1"),
        ("http://agent-host/x", "change", "rewrite.redirect: agent-host"),
        ("https://elsewhere.example/x", "note", "where people's browsers go then"),
        ("http://[x/", "note", "which is no address"),
        ("", "", ""),
    ],
)
def test_where_redirects_lead_is_told(location: str, verdict: str, saw: str) -> None:
    page = seen(302, headers={"location": location} if location else {})

    said = found("redirects", observed(pages={OWN: page}))

    assert said[0] == verdict
    assert saw in said[1]


def test_only_hosts_of_its_own_are_proposed_for_redirects() -> None:
    """WEB-09: nobody is sent elsewhere by a proposal."""
    for location, redirect in (
        ("http://127.0.0.1:9/", ("127.0.0.1",)),
        ("https://evil.example/", ()),
    ):
        page = seen(302, headers={"location": location})
        assert proposed(observed(pages={OWN: page})).redirect == redirect


@pytest.mark.parametrize(
    ("cookie", "saw"),
    [
        ("a=1; Path=/", "its cookies pass as they are"),
        ("a=1; Domain=example.com", "cookies for example.com are made the application's own"),
        ("a=1; domain=", "its cookies pass as they are"),
        ("", ""),
    ],
)
def test_cookies_for_others_are_told_of(cookie: str, saw: str) -> None:
    page = seen(headers={"set-cookie": cookie} if cookie else {})

    assert saw in found("cookies", observed(landing=page, pages={OWN: GONE}))[1]


@pytest.mark.parametrize(
    ("reply", "verdict", "saw"),
    [
        (seen(101, "/ws"), "ok", "WebSockets open at /ws"),
        (seen(401, "/ws"), "ok", "wants a sign-in first (401)"),
        (seen(404, "/ws"), "ok", "no WebSocket at /ws (404)"),
        (GONE, "note", "got nowhere: connection refused"),
        (None, "", ""),
    ],
)
def test_a_websocket_is_told_by_its_answer(
    reply: Seen | Failed | None, verdict: str, saw: str
) -> None:
    said = found("websocket", observed(sockets={} if reply is None else {OWN: reply}))

    assert said[0] == verdict
    assert saw in said[1]


@pytest.mark.parametrize(
    ("reply", "verdict", "saw"),
    [
        (seen(headers={"content-type": "text/html"}), "ok", "no event stream at /"),
        (seen(headers={"content-type": "text/event-stream"}), "note", "was silent"),
        (
            seen(headers={"content-type": "text/event-stream; charset=utf-8"}, first_byte=0.25),
            "ok",
            "first byte of the events at / after 250 ms",
        ),
        (GONE, "", ""),
        (None, "", ""),
    ],
)
def test_events_are_told_by_when_the_first_comes(
    reply: Seen | Failed | None, verdict: str, saw: str
) -> None:
    said = found("events", observed(events=reply))

    assert said[0] == verdict
    assert saw in said[1]


SMALL, MIDDLE, LARGE = 2048, 6144, 16384


@pytest.mark.parametrize(
    ("heads", "claims", "verdict", "saw"),
    [
        ({SMALL: seen(), LARGE: seen()}, "roles-and-traits", "ok", "of 16 KiB and more"),
        ({SMALL: seen(), LARGE: seen(431)}, "roles-and-traits", "ok", "takes heads of 2 KiB"),
        ({SMALL: seen(), MIDDLE: seen(431)}, "roles-and-traits", "note", "refuses heads of 6 KiB"),
        ({SMALL: seen(400)}, "roles-and-traits", "change", "refuses heads of 2 KiB already"),
        ({SMALL: GONE}, "roles-and-traits", "change", "refuses heads of 2 KiB already"),
        ({SMALL: seen(400)}, "none", "note", "refuses heads of 2 KiB"),
        ({}, "roles-and-traits", "", ""),
    ],
)
def test_an_application_with_little_room_for_heads_gets_short_ones(
    heads: dict[int, Seen | Failed], claims: Any, verdict: str, saw: str
) -> None:
    app = App(name="grafana", uri=URI, rewrite=Rewrite(jwt_claims=claims))
    what = observed(heads=heads)

    said = found("headers", what, app=app)

    assert said[0] == verdict
    assert saw in said[1]
    assert (proposed(what, app=app).jwt_claims == "none") == (verdict == "change")


@pytest.mark.parametrize(
    ("reply", "saw"),
    [
        (seen(200, "/i.png", headers={"content-type": "image/png"}), "its icon is at /i.png"),
        (seen(200, headers={"content-type": "text/html"}), "it has no icon"),
        (seen(404, headers={"content-type": "image/png"}), "it has no icon"),
        (GONE, "it has no icon"),
        (None, "it has no icon"),
    ],
)
def test_an_icon_is_what_is_a_picture(reply: Seen | Failed | None, saw: str) -> None:
    assert saw in found("icon", observed(icon=reply))[1]


def test_another_scheme_that_answers_is_proposed_as_the_uri() -> None:
    what = observed(uri="https://localhost:3000")

    assert found("connection", what) == (
        "change",
        "it speaks https there; the uri is https://localhost:3000",
    )
    assert proposed(what).uri == "https://localhost:3000"


def test_what_its_own_project_asks_for_is_passed_on() -> None:
    known = KnownApp(name="grafana", title="Grafana", port=3000, needs="set root_url")

    assert found("known", observed(), known=known) == ("note", "this is Grafana; set root_url")
    assert found("known", observed(), known=KNOWN) == ("", "")
