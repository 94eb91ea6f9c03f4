"""What an application may say back to a browser, through a whole proxy and agent: AG-08, WEB-03."""

from __future__ import annotations

from tests.stack import open_stack

ANSWER = b"HTTP/1.1 %b\r\n%b\r\nContent-Length: 0\r\n\r\n"


async def test_web_03_no_application_sets_a_cookie_for_more_than_its_own_host() -> None:
    """60 cookies for the whole domain would push everybody's sessions out of the jar."""
    async with open_stack(drain=False) as stack:
        alice = await stack.user("alice")
        lines = [
            b"Set-Cookie: c%d=%s; Domain=tport.localhost; Path=/" % (i, b"x" * 700)
            for i in range(60)
        ]
        stack.raw_app.answers(ANSWER % (b"200 OK", b"\r\n".join(lines)))

        answer = await alice.get("raw")

    assert answer.all("set-cookie") == [f"c{i}={'x' * 700}; Path=/" for i in range(60)]


async def test_ag_08_a_redirect_elsewhere_is_passed_on_and_not_followed() -> None:
    async with open_stack(drain=False) as stack:
        alice = await stack.user("alice")
        metadata = "http://169.254.169.254/latest"
        own = f"http://127.0.0.1:{stack.raw_app.port}"
        for location, expected in (
            (metadata, metadata),
            (f"{own}/a?b", stack.url("raw", "/a?b")),
            ("/relative", "/relative"),
        ):
            stack.raw_app.answers(ANSWER % (b"302 Found", b"Location: " + location.encode()))

            answer = await alice.get("raw")

            assert (answer.status, answer.header("location")) == (302, expected)

        stack.raw_app.answers(
            ANSWER
            % (
                b"200 OK",
                b"Content-Location: %b/c\r\nRefresh: 5; url=%b/r" % (own.encode(), own.encode()),
            )
        )
        answer = await alice.get("raw")

        assert answer.header("content-location") == stack.url("raw", "/c")
        assert answer.header("refresh") == f"5; url={stack.url('raw', '/r')}"
        assert stack.raw_app.connections == 4
