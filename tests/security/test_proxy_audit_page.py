"""The audit page is a place where an attacker's words are read by somebody with rights."""

from __future__ import annotations

from tests.browser import Browser
from tests.stack import Person, Stack

MARKUP = "<img src=x onerror=alert(1)>"


async def test_ops_01_what_attackers_send_is_inert_on_the_audit_page(
    stack: Stack, alice: Person
) -> None:
    """OPS-01, WEB-12: markup in a user's name, an agent, a path, and in what the filters repeat."""
    attacker = Browser(stack)
    await attacker.submit(
        f"{stack.proxy_url}/web/login",
        {"username": f"{MARKUP}\u202e", "password": "x"},
        {"User-Agent": MARKUP},
    )
    await alice.get("echo", "/%3Cimg'\">", **{"User-Agent": f"{MARKUP}\x9b31m"})
    await stack.requests(app_name="echo")
    await stack.user("olga", roles=("auditor",))
    auditor = Browser(stack)
    await auditor.sign_in("olga")

    quoted = "%22%3E%3Cimg+src%3Dx+onerror%3Dalert(1)%3E"
    for query in (
        "",
        "log=requests",
        f"q={quoted}",
        f"user={quoted}&since={quoted}",
        "log=" + quoted,
    ):
        answer = await auditor.ask(f"{stack.proxy_url}/web/audit?{query}")
        html = answer.body.decode()
        assert "<img" not in html
        assert "\x9b" not in html
        assert "\u202e" not in html
        assert "onerror=alert(1)&gt;" in html
        assert "script-src 'self'" in answer.header("content-security-policy")
