"""An application's icon is found where browsers find it, and told to auth when it asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest
import trio

from tests.engine.agent.serving import serving
from tests.fakes import START
from tests.pictures import HTML, ICO, PNG, SVG
from tport import __version__
from tport.engine.agent.icons import MAX_WAITING, Icons, fetch_icon
from tport.engine.agent.nobody import MAX_BODY, MAX_REDIRECTS
from tport.engine.agent.passage import Offered
from tport.engine.agent.rewrite import Rewriter
from tport.engine.agent.upstream import Upstream
from tport.engine.api.changes import IconAsked
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import NotFound
from tport.engine.net.http1 import Exchange
from tport.engine.types.app import App, Header, Rewrite

PUBLIC = "thing.proxy.test:3080"
Answers = Mapping[bytes, tuple[int, bytes, bytes]]  # target → status, type or location, body


def offered_at(port: int, path: str = "", **more: object) -> Offered:
    app = App(name="thing", uri=f"http://127.0.0.1:{port}{path}", **more)  # type: ignore[arg-type]
    return Offered(app, Upstream(app, lambda: START), Rewriter(app, hostname="apphost"))


async def fetched(
    answers: Answers, path: str = "", asked: list[bytes] | None = None
) -> bytes | None:
    async def answer(exchange: Exchange) -> None:
        target = exchange.request.target
        if asked is not None:
            asked.append(target)
        status, what, body = answers.get(target, (404, b"text/plain", b""))
        name = b"location" if status in (302, 307) else b"content-type"
        await exchange.respond(status, [(name, what)], body)

    async with serving(answer) as port:
        return await fetch_icon(offered_at(port, path), PUBLIC, hostname="apphost")


def page(head: bytes) -> tuple[int, bytes, bytes]:
    return 200, b"text/html; charset=utf-8", b"<!doctype html>" + head


@pytest.mark.parametrize(
    ("head", "target"),
    [
        (b"<link rel=icon href=/i.png>", b"/i.png"),
        (b'<link rel="shortcut icon" href="i.png?v=2">', b"/i.png?v=2"),
        (b'<base href="/static/"><link rel=icon href=i.png>', b"/static/i.png"),
        (b"<link rel=icon href=https://thing.proxy.test:3080/i.png>", b"/i.png"),
        (b"<title>none</title>", b"/favicon.ico"),
        (b"<link rel=icon href='data:,'>", b"/favicon.ico"),
        (b"<link rel=icon href=https://cdn.example.com/i.png>", b"/favicon.ico"),
        (b"<link rel=icon href=/i.svg><link rel='alternate icon' href=/i.png>", b"/i.png"),
    ],
)
async def test_it_is_what_the_page_names_or_lies_where_browsers_look(
    head: bytes, target: bytes
) -> None:
    answers = {b"/": page(head), target: (200, b"image/png", PNG), b"/i.svg": (200, b"a/b", SVG)}

    assert await fetched(answers) == PNG


async def test_redirects_within_the_application_are_followed() -> None:
    answers = {
        b"/wiki/": (302, b"/wiki/login?next=%2F", b""),
        b"/wiki/login?next=%2F": page(b"<link rel=icon href=icon>"),
        b"/wiki/icon": (307, b"https://thing.proxy.test:3080/static/icon.ico", b""),
        b"/static/icon.ico": (200, b"application/octet-stream", ICO),
    }

    assert await fetched(answers, "/wiki/") == ICO


async def test_redirects_without_end_end_in_no_icon() -> None:
    asked: list[bytes] = []
    answers = {
        b"/": page(b"<link rel=icon href=/a>"),
        b"/a": (302, b"/b", b""),
        b"/b": (302, b"/a", b""),
    }

    assert await fetched(answers, asked=asked) == b""
    assert len(asked) <= 2 * (MAX_REDIRECTS + 2)


async def test_a_picture_without_end_is_none() -> None:
    answers = {
        b"/": page(b"<link rel=icon href=/i.png>"),
        b"/i.png": (200, b"image/png", PNG + b"x" * MAX_BODY),
    }

    assert await fetched(answers) == b""


async def test_what_is_said_before_the_answer_is_not_the_answer() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send_head(103, [(b"link", b"</style.css>")])
        await exchange.respond(200, [(b"content-type", b"image/png")], PNG)

    async with serving(answer) as port:
        assert await fetch_icon(offered_at(port), PUBLIC, hostname="apphost") == PNG


async def test_an_application_without_one_has_none() -> None:
    assert await fetched({b"/": page(HTML)}) == b""


async def test_few_icons_are_tried() -> None:
    asked: list[bytes] = []
    links = b"".join(b"<link rel=icon href=/%d>" % number for number in range(50))

    assert await fetched({b"/": page(links)}, asked=asked) == b""
    assert asked == [b"/", b"/0", b"/1", b"/2", b"/favicon.ico"]


async def test_one_that_gives_no_answer_now_may_have_one() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()

    assert await fetch_icon(offered_at(port), PUBLIC, hostname="apphost") is None
    assert await fetched({b"/": (503, b"text/html", b"starting")}) is None


async def test_the_application_sees_the_agent_and_nobody_else() -> None:
    """No cookie, no JWT, no name; what its definition says that it is sent is."""
    seen: list[dict[bytes, bytes]] = []

    async def answer(exchange: Exchange) -> None:
        seen.append(dict(exchange.request.headers))
        await exchange.respond(404, [(b"set-cookie", b"tracked=yes")])

    rewrite = Rewrite(
        headers=(
            Header(name="X-Key", value="k"),
            Header(name="X-User", value="{{internal.logins}}"),
        )
    )
    async with serving(answer) as port:
        await fetch_icon(offered_at(port, rewrite=rewrite), PUBLIC, hostname="apphost")

    assert len(seen) == 2
    for headers in seen:
        assert headers[b"user-agent"] == f"tport/{__version__} (icon)".encode()
        assert headers[b"x-key"] == b"k"
        assert headers.keys().isdisjoint(
            (b"cookie", b"authorization", b"teleport-jwt-assertion", b"x-user", b"referer")
        )


class FakeAuth:
    """Hears of icons; `refusal` is what it says then."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bytes, bool]] = []
        self.heard = trio.Event()
        self.refusal: Exception | None = None

    async def tell_icon(self, *, app: str, icon: bytes, answered: bool) -> None:
        self.told.append((app, icon, answered))
        self.heard.set()
        if self.refusal is not None:
            raise self.refusal


def keeper(auth: FakeAuth, offered: Mapping[str, Offered]) -> Icons:
    return Icons(
        offered,
        cast("AuthAPI", auth),
        public_address=lambda name: f"{name}.proxy.test:3080",
        hostname="apphost",
    )


async def test_auth_is_told_what_it_asked_for_and_asks_on_after_it_refused() -> None:
    auth = FakeAuth()
    auth.refusal = NotFound("nobody asked for this icon")

    async def answer(exchange: Exchange) -> None:
        await exchange.respond(200, [], PNG)

    async with serving(answer) as port, trio.open_nursery() as nursery:
        icons = keeper(auth, {"thing": offered_at(port)})
        nursery.start_soon(icons.keep)
        for name in ("gone", "thing"):
            auth.heard = trio.Event()
            icons.ask(IconAsked(app=name))
            await auth.heard.wait()
        nursery.cancel_scope.cancel()

    assert auth.told == [("gone", b"", False), ("thing", PNG, True)]


async def test_more_questions_than_there_is_room_for_are_dropped() -> None:
    auth = FakeAuth()
    icons = keeper(auth, {})
    for number in range(MAX_WAITING + 5):
        icons.ask(IconAsked(app=f"app-{number}"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(icons.keep)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert len(auth.told) == MAX_WAITING
