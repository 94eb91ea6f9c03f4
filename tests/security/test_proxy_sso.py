"""AUTH-14 through a whole cluster: a provider's answer, brought by browsers that lie about it."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import pytest

from tests.browser import Browser, whereto
from tests.engine.auth.sso.visits import ANN, GOOGLE, ISSUER
from tests.provider import SECRET, FakeProvider
from tests.stack import Answer, Stack
from tport.engine.types.resource import OidcResource

LOGIN = "/web/login/sso/oidc/google"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """The provider of ISSUER, asked instead of the network. Before `stack`, which asks for a transport."""
    made = FakeProvider(ISSUER)
    monkeypatch.setattr("tport.engine.auth.service.HttpsTransport", lambda: made)
    return made


@pytest.fixture
async def cluster(provider: FakeProvider, stack: Stack) -> Stack:
    await stack.admin.put_resource(resource=OidcResource(connector=GOOGLE), mode="create")
    return stack


async def asked(browser: Browser, next_: str = "") -> str:
    """Begin to sign in; return the provider's address that the browser is sent to."""
    query = f"?next={next_}" if next_ else ""
    sent = await browser.ask(f"{browser.stack.proxy_url}{LOGIN}{query}")
    assert sent.status == 302
    assert sent.header("location").startswith(f"{ISSUER}/authorize?")
    return sent.header("location")


async def back(browser: Browser, url: str, query: str) -> Answer:
    """Come back from the provider, with its answer to `url`, which it was sent."""
    [place] = [value for name, value in parse_qsl(urlsplit(url).query) if name == "redirect_uri"]
    return await browser.ask(f"{place}?{query}")


def is_signed_in(browser: Browser) -> bool:
    cookies = browser.jar.get(urlsplit(browser.stack.proxy_url).hostname or "", {})
    return any("tport_web" in name for name in cookies)


async def test_who_wants_an_application_comes_to_it_by_the_provider(
    cluster: Stack, provider: FakeProvider
) -> None:
    browser = Browser(cluster)
    page = await browser.go(cluster.url("echo", "/deep?x=1"))
    assert b"Sign in with Google" in page.body
    [link] = [part for part in page.body.decode().split('"') if part.startswith(LOGIN)]
    sent = await browser.ask(urljoin(cluster.proxy_url, link.replace("&amp;", "&")))
    url = sent.header("location")
    answer = await back(browser, url, provider.sign_in(url, **ANN))
    arrived = await browser.go(urljoin(cluster.proxy_url, whereto(answer) or ""))
    assert arrived.status == 200
    assert browser.trail[-1] == cluster.url("echo", "/deep?x=1")


async def test_auth_14_a_link_with_somebody_elses_answer_signs_nobody_in(
    cluster: Stack, provider: FakeProvider
) -> None:
    """Login CSRF."""
    attacker, victim = Browser(cluster), Browser(cluster)
    url = await asked(attacker)
    query = provider.sign_in(url, **ANN)
    for with_own in (False, True):
        if with_own:
            await asked(victim)  # has begun something of their own
        answer = await back(victim, url, query)
        assert answer.status == 403
        assert not is_signed_in(victim)


async def test_auth_14_an_answer_signs_in_once(cluster: Stack, provider: FakeProvider) -> None:
    browser = Browser(cluster)
    url = await asked(browser)
    query = provider.sign_in(url, **ANN)
    assert (await back(browser, url, query)).status == 303
    again = Browser(cluster)
    again.jar = {host: dict(cookies) for host, cookies in browser.jar.items()}
    assert (await back(again, url, query)).status == 403


async def test_auth_14_an_answer_counts_at_its_own_address_and_from_its_own_provider(
    cluster: Stack, provider: FakeProvider
) -> None:
    browser = Browser(cluster)
    for path, change in (
        ("/v1/webapi/oidc/callback", {}),
        ("/v1/webapi/oidc/callback/other", {}),
        ("/v1/webapi/github/callback/google", {}),
        ("/v1/webapi/oidc/callback/google", {"iss": "https://evil.test"}),
    ):
        told = dict(parse_qsl(provider.sign_in(await asked(browser), **ANN))) | change
        answer = await browser.ask(f"{cluster.proxy_url}{path}?{urlencode(told)}")
        assert answer.status == 403, path
        assert not is_signed_in(browser)
    assert "/token" not in provider.asked


@pytest.mark.parametrize(
    "next_", ["https://evil.test/", "//evil.test", "/\\evil.test", "javascript:alert(1)"]
)
async def test_auth_14_nobody_is_led_elsewhere_afterwards(
    cluster: Stack, provider: FakeProvider, next_: str
) -> None:
    browser = Browser(cluster)
    url = await asked(browser, next_)
    answer = await back(browser, url, provider.sign_in(url, **ANN))
    assert answer.status == 303
    assert urljoin(cluster.proxy_url, whereto(answer) or "").startswith(cluster.proxy_url)
    assert "evil" not in (whereto(answer) or "")


async def test_auth_14_what_a_provider_says_is_text_on_our_pages(
    cluster: Stack, provider: FakeProvider
) -> None:
    browser = Browser(cluster)
    url = await asked(browser)
    script = "<script>alert(1)</script>"
    query = provider.sign_in(url, **ANN | {"groups": [script]})
    page = await back(browser, url, query)
    assert page.status == 403
    assert script.encode() not in page.body
    assert b"&lt;script&gt;" in page.body
    assert "no-store" in page.header("cache-control")


async def test_auth_14_no_page_and_no_log_holds_a_code_a_token_or_the_secret(
    cluster: Stack, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(cluster)
    provider.claims["aud"] = "another"
    url = await asked(browser)
    query = provider.sign_in(url, **ANN)
    page = await back(browser, url, query)
    told = dict(parse_qsl(query))
    events = repr(await cluster.events())
    for secret in (told["code"], told["state"], SECRET, "access-0"):
        assert secret.encode() not in page.body
        assert secret not in caplog.text
        assert secret not in events


async def test_auth_14_only_the_provider_ends_sessions_from_behind(
    cluster: Stack, provider: FakeProvider
) -> None:
    browser = Browser(cluster)
    url = await asked(browser)
    await back(browser, url, provider.sign_in(url, **ANN))
    forged = FakeProvider(ISSUER)  # with a key of its own
    for token in ("", "x", forged.sign(forged.id_claims("", **ANN))):
        answer = await browser.ask(
            f"{cluster.proxy_url}/v1/webapi/oidc/logout/google",
            {"Content-Type": "application/x-www-form-urlencoded"},
            method="POST",
            body=urlencode({"logout_token": token}).encode(),
        )
        assert answer.status == 400
    assert (await browser.go(f"{cluster.proxy_url}/web")).status == 200
