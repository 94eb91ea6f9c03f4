"""Icons come from applications that may be anybody's: shown as pictures, to who may open them, or not at all."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio

from tests.browser import Browser
from tests.pictures import HTML, PNG, SVG
from tests.stack import Answer, Person, RawApp, Stack, open_stack
from tport.engine.types.app import App
from tport.engine.types.icon import MAX_ICON, icon_of

PAGE = b"<!doctype html><link rel=icon href=/i>"


def answer(body: bytes, media_type: bytes = b"image/png", *more: bytes) -> bytes:
    head = [b"HTTP/1.1 200 OK", b"Content-Type: " + media_type, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*head, *more, b"Connection: close", b"", body])


def redirect(location: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"


NOTHING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def serve(app: RawApp, answers: Mapping[bytes, bytes]) -> None:
    async def script(stream: trio.SocketStream) -> None:
        head = await app.take_head(stream)
        if head:
            await stream.send_all(answers.get(head.split()[1], NOTHING))

    app.script = script


async def icon(stack: Stack, person: Person | None, app: str = "raw") -> Answer:
    cookie = {"Cookie": f"{stack.web_cookie}={person.web}"} if person else {}
    host = stack.proxy_url.removeprefix("https://").partition(":")[0]
    return await stack.request(host, f"/web/app/{app}/icon", cookie)


async def settled(stack: Stack, person: Person, app: str = "raw") -> Answer:
    """Look at the applications, wait until the agent has told, and ask for the icon."""
    acting = stack.api.acting_for(person.web)
    with trio.fail_after(30):
        while app not in [each.name for each in await acting.own_apps()]:  # noqa: ASYNC110 - no event
            await trio.sleep(0.01)  # the offer is on its way from the proxy, in real time
        while app in stack.auth.icons.waiting:  # noqa: ASYNC110 - no event
            await trio.sleep(0.01)  # and the answer from the agent
    return await icon(stack, person, app)


async def test_web_11_an_icon_is_a_picture_by_its_content_and_nothing_else(
    stack: Stack, alice: Person
) -> None:
    """WEB-11: the type isn't the application's word, none of its headers come along, and no script runs."""
    body = PNG + HTML
    headers = (b"Set-Cookie: a=b", b"Content-Security-Policy: default-src *", b"X-Own: x")
    serve(
        stack.raw_app,
        {b"/": answer(PAGE, b"text/html"), b"/i": answer(body, b"text/html", *headers)},
    )

    got = await settled(stack, alice)

    assert (got.status, got.body) == (200, body)
    assert got.header("content-type") == "image/png"
    assert got.all("x-content-type-options") == ["nosniff"]
    assert got.all("content-security-policy") == ["default-src 'none'; sandbox"]
    assert got.all("cross-origin-resource-policy") == ["same-origin"]
    assert got.header("cache-control").startswith("private")
    assert got.all("set-cookie") == got.all("x-own") == []


@pytest.mark.parametrize(
    "sent",
    [
        answer(SVG, b"image/svg+xml"),
        answer(SVG),
        answer(HTML),
        answer(HTML, b"text/html"),
        answer(b"alert(1)", b"image/x-icon"),
        answer(PNG + bytes(MAX_ICON)),
        b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\n\r\n"
        + PNG
        + bytes(1 << 20),
        answer(PNG)[:-1],
        answer(PNG).replace(b"200 OK", b"403 Forbidden"),
        redirect(b"https://evil.example/i.png"),
        redirect(b"http://169.254.169.254/latest/meta-data/"),
        redirect(b"//evil.example/i.png"),
        redirect(b"file:///etc/hostname"),
        redirect(b"/i"),
    ],
    ids=[
        "svg",
        "svg-called-png",
        "html-called-png",
        "html",
        "script-called-ico",
        "oversized",
        "oversized-without-length",
        "cut-short",
        "an-error-s-picture",
        "another-host",
        "metadata",
        "no-scheme",
        "a-file",
        "in-circles",
    ],
)
async def test_web_11_what_is_no_small_whole_picture_of_its_own_is_no_icon(
    stack: Stack, alice: Person, sent: bytes
) -> None:
    """WEB-11, AG-06: nor is any address but the application's own asked for one."""
    serve(stack.raw_app, {b"/": answer(PAGE, b"text/html"), b"/i": sent})

    assert (await settled(stack, alice)).status == 404
    assert all(f"127.0.0.1:{stack.raw_app.port}".encode() in head for head in stack.raw_app.heads)


async def test_web_11_an_icon_that_drips_is_given_up(stack: Stack, alice: Person) -> None:
    """WEB-11: in real time, 2 s: an icon that isn't whole by then is none; nobody waits meanwhile."""
    dripping = trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        target = (await stack.raw_app.take_head(stream)).split()[1]
        if target != b"/i":
            await stream.send_all(answer(PAGE, b"text/html") if target == b"/" else NOTHING)
            return
        whole = answer(PNG)
        await stream.send_all(whole[:-3])
        dripping.set()
        for byte in whole[-3:]:
            await trio.sleep(1.5)
            await stream.send_all(bytes((byte,)))

    stack.raw_app.script = script
    async with trio.open_nursery() as nursery:
        got: list[Answer] = []

        async def ask() -> None:
            got.append(await settled(stack, alice))

        nursery.start_soon(ask)
        with trio.fail_after(10):
            await dripping.wait()
        assert (await icon(stack, alice)).status == 404, "at once"
        assert not got
    assert [each.status for each in got] == [404]


async def test_ag_07_no_icon_is_fetched_from_where_clouds_keep_credentials() -> None:
    """AG-07: the application itself is at such an address, by whatever name."""
    app = App(name="meta", uri="http://169.254.169.254/")
    async with open_stack(apps=(app,), drain=False) as stack:
        alice = await stack.user("alice")
        assert (await settled(stack, alice, "meta")).status == 404


async def test_az_12_an_icon_tells_who_may_not_open_the_application_nothing(
    stack: Stack, alice: Person
) -> None:
    """AZ-12: one that isn't theirs, one that isn't, and one that isn't theirs to ask for look alike."""
    serve(stack.raw_app, {b"/favicon.ico": answer(PNG), b"/": answer(b"")})
    assert (await settled(stack, alice)).status == 200
    mallory = await stack.outsider("mallory")

    answers = [
        await icon(stack, mallory),
        await icon(stack, mallory, "nothing-like-it"),
        await icon(stack, None),
        await icon(stack, None, "nothing-like-it"),
        await icon(stack, Person(stack, "nobody", web="x" * 43)),
    ]

    assert {each.status for each in answers} == {404}
    assert len({each.body for each in answers}) == 1
    assert len({tuple(h for h in each.headers if h[0] != "date") for each in answers}) == 1


async def test_az_04_who_loses_the_application_loses_its_icon(stack: Stack, alice: Person) -> None:
    """AZ-04: at once."""
    serve(stack.raw_app, {b"/favicon.ico": answer(PNG), b"/": answer(b"")})
    assert (await settled(stack, alice)).status == 200

    await stack.admin.update_user(name="alice", roles=("auditor",), traits=None)

    assert (await icon(stack, alice)).status == 404


async def test_az_09_the_application_learns_of_nobody_who_looks(
    stack: Stack, alice: Person
) -> None:
    """AZ-09: the agent asks, with no cookie, token or name of whose page it is for."""
    serve(stack.raw_app, {b"/favicon.ico": answer(PNG), b"/": answer(b"")})

    await settled(stack, alice)

    assert len(stack.raw_app.heads) == 2
    for head in stack.raw_app.heads:
        assert b"\r\nuser-agent: tport/" in head.lower()
        for word in (b"alice", b"cookie", b"authorization", b"assertion", alice.web.encode()):
            assert word not in head.lower()


async def test_web_11_the_page_takes_the_icon_from_its_own_origin(
    stack: Stack, alice: Person
) -> None:
    """WEB-11: no browser is sent to the application, or elsewhere, for a picture."""
    serve(stack.raw_app, {b"/favicon.ico": answer(PNG), b"/": answer(b"")})
    await settled(stack, alice)
    browser = Browser(stack)
    await browser.sign_in("alice")

    page = (await browser.go(f"{stack.proxy_url}/")).body.decode()

    known = icon_of(PNG)
    assert known is not None
    assert f'<img src="/web/app/raw/icon?v={known.tag}" ' in page
    assert page.count("<img ") == 1
