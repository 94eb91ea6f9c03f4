"""A hostile sibling: an application whose pages run any script, beside another that alice has open.

What it tries it tries in Chromium, on its own sub-domain, where SameSite helps nobody: all
applications and the proxy are one site. Judged is by what reached the others and what its
scripts could read; and after each attack alice is who she was, in the sessions that she had.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.browser import open_context, sign_in, sign_out
from tests.e2e.client import NAVIGATION, Client
from tests.e2e.harness import DOMAIN, PASSWORD, Cluster
from tests.e2e.site import Answer, Request, Site, serve

pytestmark = pytest.mark.e2e

SECRET = "what alice alone may read"
OURS = "__Host-tport_"


def victim(request: Request) -> Answer:
    """Says nothing about frames or other origins; its secret comes as a page, as JSON and as events."""
    if request.path == "/events":
        return Answer(f"data: {SECRET}\n\n", kind="text/event-stream")
    if request.path == "/data.json":
        return Answer(json.dumps([SECRET]), kind="application/json")
    if request.path == "/never-framed":
        policy = ("Content-Security-Policy", "frame-ancestors 'none'")
        return Answer(f"<h1>{SECRET}</h1>", headers=(policy,))
    return Answer(f"<!doctype html><title>Victim</title><h1>{SECRET}</h1>")


@dataclass
class Evil:
    """The hostile application: a page per path, and answers as a test wants them."""

    headers: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    worker: str = ""

    def __call__(self, request: Request) -> Answer:
        if request.path == "/worker.js":
            return Answer(
                self.worker,
                kind="text/javascript",
                headers=(("Service-Worker-Allowed", "/"),),
            )
        status = 302 if any(name == "Location" for name, _ in self._of(request)) else 200
        page = "<!doctype html><title>Evil</title><h1>Evil</h1>"
        return Answer(page, status=status, headers=self._of(request))

    def _of(self, request: Request) -> tuple[tuple[str, str], ...]:
        return self.headers.get(request.path, ())


@dataclass
class Attack:
    """Alice's browser: her session at the proxy, the victim's page open, and the hostile one.

    Attributes:
        renewed: hosts at which she may have got a new session by then, of her own.
    """

    cluster: Cluster
    context: BrowserContext
    page: Page
    app: Evil
    evil: Site
    victim: Site
    renewed: set[str] = field(default_factory=set)

    def run(self, script: str, argument: Any = None) -> Any:
        """Run a script in the hostile page; return what it found out."""
        return self.page.evaluate(script, argument)

    def url(self, path: str = "/") -> str:
        return self.cluster.app_url("victim", path)

    def cookies(self) -> dict[tuple[str, str], str]:
        """Alice's cookies that carry sessions, but for the hostile application's own: (host, name) → value."""
        return {
            (cookie["domain"], cookie["name"]): cookie["value"]
            for cookie in self.context.cookies()
            if cookie["name"].startswith((f"{OURS}web_", f"{OURS}app_"))
            and cookie["domain"] != f"evil.{DOMAIN}"
        }

    def reached(self, *methods: str) -> list[tuple[str, str]]:
        """What came to the victim in alice's name, but for her own look at it."""
        return [
            (request.method, request.path)
            for request in self.victim.seen
            if request.method in methods or not methods
        ]

    def look(self, url: str) -> Page:
        """Have alice open something in a new tab."""
        page = self.context.new_page()
        page.goto(url)
        return page


def user_of(request: Request) -> str:
    """Return whom tport told the application that this is."""
    claims = jwt.decode(
        request.headers["Teleport-Jwt-Assertion"], options={"verify_signature": False}
    )
    return str(claims["sub"])


@pytest.fixture(scope="module")
def neighbours(cluster: Cluster) -> Iterator[tuple[Evil, Site, Site]]:
    app = Evil()
    with serve(app) as evil, serve(victim) as other:
        agent = cluster.start_agent_of(
            f"""\
app_service:
  enabled: yes
  apps:
  - name: evil
    uri: {evil.url}
  - name: victim
    uri: {other.url}
"""
        )
        cluster.wait_for_app("victim", agent)
        cluster.signed_in("alice", "access,editor,auditor")
        yield app, evil, other


@pytest.fixture(scope="module")
def mallory(cluster: Cluster) -> Client:
    """Who wrote the hostile application; has an account like everybody, and her own way to the victim."""
    return cluster.signed_in("mallory")


@pytest.fixture
def nothing_done(cluster: Cluster, mallory: Client) -> Iterator[None]:
    """What an editor could have changed is afterwards as it was."""
    before = cluster.tell("get", "user,role,lock,token")
    yield
    assert cluster.tell("get", "user,role,lock,token") == before


@pytest.fixture
def attack(
    cluster: Cluster, browser: Browser, neighbours: tuple[Evil, Site, Site]
) -> Iterator[Attack]:
    """Alice with both open. Afterwards she still is who she was, everywhere, and did nothing."""
    app, evil, other = neighbours
    app.headers, app.worker = {}, ""
    with open_context(browser) as (context, _):
        page = context.new_page()
        page.goto(cluster.app_url("victim"))
        sign_in(page, "alice", PASSWORD)
        expect(page.get_by_role("heading")).to_have_text(SECRET)
        page = context.new_page()
        page.goto(cluster.app_url("evil"))
        expect(page.get_by_role("heading")).to_have_text("Evil")
        attack = Attack(cluster, context, page, app, evil, other)
        before = attack.cookies()
        assert {host for host, _ in before} == {DOMAIN, f"victim.{DOMAIN}"}
        evil.seen.clear()
        other.seen.clear()

        yield attack

        assert {user_of(request) for request in other.seen} <= {"alice"}
        other.seen.clear()
        home = attack.look(cluster.url)
        expect(home.get_by_role("heading", name="Applications", exact=True)).to_be_visible()
        expect(home.locator("details.me summary")).to_contain_text("alice")
        expect(attack.look(attack.url()).get_by_role("heading")).to_have_text(SECRET)
        assert user_of(other.seen[-1]) == "alice"
        after = attack.cookies()
        assert after.keys() == before.keys()
        assert {key[0] for key in before if after[key] != before[key]} <= attack.renewed


READ_COOKIES = """async () => [document.cookie, (await cookieStore.getAll()).map(c => c.name)]"""


def test_it_reads_no_cookie_of_ours_in_the_browser_and_is_sent_none(attack: Attack) -> None:
    """WEB-04: they are HttpOnly and `__Host-`, and the proxy takes them out on the way."""
    assert attack.run(READ_COOKIES) == ["", []]

    attack.run("() => fetch('/mine', {credentials: 'include'})")

    [seen] = [request for request in attack.evil.seen if request.path == "/mine"]
    assert "tport" not in str(seen.headers.get_all("Cookie"))
    claims = jwt.decode(seen.headers["Teleport-Jwt-Assertion"], options={"verify_signature": False})
    assert claims["aud"] == [attack.evil.url]  # what it is sent is for it alone
    secrets = set(attack.cookies().values())
    assert not any(secret in str(seen.headers) for secret in secrets)


PLANT = """async ([names, values, domain]) => {
    for (const name of names) for (const value of values)
        for (const path of ["/", "/web", "/.tport/auth"])
            for (const scope of [`Domain=${domain}; `, ""]) {
                document.cookie = `${name}=${value}; ${scope}Path=${path}; Secure`;
                document.cookie = `${name}=${value}; ${scope}Path=${path}`;
                document.cookie = `=${name}=${value}; ${scope}Path=${path}; Secure`;
                await cookieStore.set({name, value, domain: scope && domain, path}).catch(() => 0);
            }
}"""


def names_of(attack: Attack) -> list[str]:
    """The names of our session cookies, and what a lenient reader might take for one."""
    real = sorted({name for _, name in attack.cookies()})
    bare = [name.removeprefix("__Host-") for name in real]
    return [
        *real,
        *bare,
        *(f"__Secure-{name}" for name in bare),
        *(name.lower() for name in real),
        *(f"\u2000{name}" for name in real),
    ]


def test_cookies_that_it_plants_at_the_whole_site_are_nobody_s_session(
    attack: Attack, mallory: Client
) -> None:
    """WEB-01, WEB-06: mallory's own sessions, under the names of ours and near them."""
    attack_names = names_of(attack)
    mallory.open(attack.url())
    jars = (mallory.cookie_header(url) for url in (attack.cluster.url, attack.url()))
    values = [pair.partition("=")[2] for jar in jars for pair in jar.split("; ") if OURS in pair]
    assert len(values) >= 2
    attack.victim.seen.clear()  # of her own visit

    attack.run(PLANT, [attack_names, values, DOMAIN])

    planted = {
        cookie["name"] for cookie in attack.context.cookies() if cookie["domain"] == f".{DOMAIN}"
    }
    assert any(name.startswith("tport_web_") for name in planted)  # the jar takes them
    assert not any(name.startswith("__Host-") for name in planted)
    for url, title in ((attack.cluster.url, "Applications"), (attack.url(), SECRET)):
        expect(attack.look(url).get_by_role("heading", name=title, exact=True)).to_be_visible()


def test_who_is_signed_out_is_not_signed_in_by_what_it_planted(
    cluster: Cluster, browser: Browser, attack: Attack, mallory: Client
) -> None:
    """WEB-06: a browser without a session gets the sign-in page, and not mallory's account."""
    values = [
        pair.partition("=")[2]
        for pair in mallory.cookie_header(cluster.url).split("; ")
        if pair.startswith(OURS)
    ]
    with open_context(browser) as (context, _):
        page = context.new_page()
        page.goto(cluster.app_url("evil"))
        sign_in(page, "alice", PASSWORD)
        expect(page.get_by_role("heading")).to_have_text("Evil")
        page.evaluate(PLANT, [names_of(attack), values, DOMAIN])
        sign_out(context, cluster.url)

        for url in (cluster.url, cluster.app_url("victim")):
            page.goto(url)
            expect(page.get_by_label("User name")).to_be_visible()
    assert attack.reached() == []


FILL_JAR = """([domain, count, size]) => {
    for (let n = 0; n < count; n++)
        document.cookie = `x${n}=${"y".repeat(size)}; Domain=${domain}; Path=/; Secure`;
}"""


@pytest.mark.parametrize(("count", "size"), [(400, 1), (60, 3800)], ids=["many", "large"])
def test_a_jar_that_it_fills_signs_alice_out_at_most_and_nobody_in(
    cluster: Cluster, browser: Browser, neighbours: tuple[Evil, Site, Site], count: int, size: int
) -> None:
    """WEB-03: Chromium drops the oldest of a site's 180 cookies, or the head is too large: a nuisance.

    The way out is the browser's own: what the page says that is shown then.
    """
    other = neighbours[2]
    with open_context(browser) as (context, _):
        page = context.new_page()
        page.goto(cluster.app_url("evil"))
        sign_in(page, "alice", PASSWORD)
        expect(page.get_by_role("heading")).to_have_text("Evil")
        other.seen.clear()

        page.evaluate(FILL_JAR, [DOMAIN, count, size])
        answer = page.goto(cluster.app_url("victim"))

        assert answer is not None
        if size > 1:
            assert answer.status == 431
            expect(page.get_by_text("cookies").first).to_be_visible()
        else:
            assert answer.status == 200
        assert {user_of(request) for request in other.seen} <= {"alice"}


def to_the_code(client: Client, url: str) -> str:
    """Go the way into an application up to the address with the code, and don't spend it."""
    for _ in range(8):
        page = client.request("GET", url, headers=NAVIGATION)
        url = page.header("location")
        if "/.tport/auth?" in url:
            return url
    raise AssertionError(f"no code on the way, but {url}")


@pytest.mark.parametrize("how", ["open", "redirect", "frame", "fetch"])
def test_a_way_in_that_mallory_began_ends_in_nobody_s_session_but_alice_s(
    attack: Attack, mallory: Client, how: str
) -> None:
    """WEB-06: her code and her state for the victim, in alice's browser; with the state planted, too."""
    fresh = attack.cluster.client()
    fresh.sign_in(fresh.open(attack.cluster.url), "mallory", PASSWORD)
    url = to_the_code(fresh, attack.url())
    [state] = [
        pair
        for pair in fresh.cookie_header(attack.url()).split("; ")
        if pair.startswith(f"{OURS}state_")
    ]
    name, _, value = state.partition("=")
    names = [name, name.removeprefix("__Host-")]
    attack.run(PLANT, [names, [value], DOMAIN])

    attack.renewed = {f"victim.{DOMAIN}"}  # the way began anew, and was alice's then
    if how == "redirect":
        attack.app.headers["/to"] = (("Location", url),)
        landed = attack.look(attack.cluster.app_url("evil", "/to"))
        expect(landed.get_by_role("heading")).to_have_text(SECRET)
    elif how == "open":
        with attack.context.expect_page() as opened:
            attack.run("url => { window.open(url); }", url)
        expect(opened.value.get_by_role("heading")).to_have_text(SECRET)
    elif how == "frame":
        attack.run(SHOW_FRAME, url)
    else:
        attack.run(
            "url => fetch(url, {credentials: 'include', mode: 'no-cors'}).catch(() => 0)", url
        )

    assert {user_of(request) for request in attack.victim.seen} <= {"alice"}
    again = fresh.request("GET", url, headers=NAVIGATION)
    assert "/web/launch?" in again.header("location")  # burnt, for her as well


# Resolves to what the script read: "" where the browser let it read nothing.
TRY_TO_READ = """async ([url, method, mode]) => {
    const asked = {method, mode, credentials: "include", redirect: "follow"};
    if (method === "POST") asked.body = new URLSearchParams({name: "mallory", roles: "editor"});
    try {
        const answer = await fetch(url, asked);
        return `${answer.type === "opaque" ? "" : answer.status}${await answer.text()}`;
    } catch { return ""; }
}"""
PROXY_PATHS = (
    *("/", "/web", "/web/login", "/web/logout", "/web/users", "/web/users/add", "/web/user/alice"),
    *("/web/account/tokens", "/web/account/tokens/add", "/web/join", "/web/requests", "/web/tokens/add"),
    *("/web/requests/none", "/web/audit/export", "/web/sessions", "/web/launch?state=x", "/webapi/ping"),
)  # fmt: skip
VICTIM_PATHS = (
    "/",
    "/data.json",
    "/.tport/session",
    "/.tport/auth?code=x&state=y",
    "/teleport-logout",
)


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
def test_its_fetches_read_nothing_and_change_nothing(attack: Attack, mode: str) -> None:
    """WEB-05, WEB-13: with credentials; simple requests, which no preflight comes before."""
    urls = [f"{attack.cluster.url}{path}" for path in PROXY_PATHS]
    urls += [attack.url(path) for path in VICTIM_PATHS]

    read = {
        (url, method): attack.run(TRY_TO_READ, [url, method, mode])
        for url in urls
        for method in ("GET", "POST")
    }

    assert set(read.values()) == {""}
    assert attack.reached("POST") == []
    if mode == "no-cors":  # it is sent, as an image would be; who reads it is another matter
        assert ("GET", "/data.json") in attack.reached()


def test_no_method_that_needs_leave_gets_as_far_as_the_victim(attack: Attack) -> None:
    """WEB-13: a preflight is without cookies, hence nobody's; a beacon is a POST like any other."""
    for method in ("PUT", "DELETE", "PATCH", "PROPFIND"):
        assert attack.run(TRY_TO_READ, [attack.url("/data.json"), method, "cors"]) == ""
    attack.run("url => navigator.sendBeacon(url, 'x')", attack.url("/beacon"))
    attack.run(
        "url => fetch(url, {method: 'POST', keepalive: true, mode: 'no-cors'})", attack.url()
    )

    assert attack.reached() == []


INCLUDE = """async ([base, socket]) => {
    const heard = [], add = (tag, fields) => new Promise(done => {
        const element = Object.assign(document.createElement(tag), fields);
        element.onload = () => done(`${tag} loaded`);
        element.onerror = () => done(`${tag} failed`);
        document.head.append(element);
    });
    addEventListener("error", event => { heard.push(event.message); });
    const events = new EventSource(`${base}/events`, {withCredentials: true});
    events.onmessage = event => heard.push(event.data);
    const wire = new WebSocket(socket);
    wire.onmessage = event => heard.push(event.data);
    const closed = Promise.all([
        new Promise(done => { wire.onopen = () => done("open"); wire.onclose = () => done("closed"); }),
        new Promise(done => { events.onerror = () => done("closed"); }),
    ]);
    const loaded = [
        await add("script", {src: `${base}/data.json`}),
        await add("link", {rel: "stylesheet", href: `${base}/data.json`}),
        await add("img", {src: `${base}/data.json`}),
    ];
    const states = await closed;
    const rules = [...document.styleSheets].map(sheet => {
        try { return sheet.cssRules.length } catch { return 0 }
    });
    events.close();
    return {heard: heard.filter(text => text !== "Script error."), states, loaded, rules};
}"""


def test_what_it_includes_of_the_victim_tells_it_nothing(attack: Attack) -> None:
    """WEB-10, WEB-13: scripts, styles, images, events; and a WebSocket, which gets no further than the proxy."""
    found = attack.run(
        INCLUDE, [attack.url().rstrip("/"), attack.url("/ws").replace("http", "ws", 1)]
    )

    assert found["heard"] == []
    assert found["states"] == ["closed", "closed"]
    assert "img failed" in found["loaded"]
    assert not any(found["rules"])
    assert ("GET", "/ws") not in attack.reached()


SEND_FORM = """([url, target, kind, fields]) => {
    const form = Object.assign(document.createElement("form"), {
        method: "POST", action: url, target, enctype: kind,
    });
    for (const [name, value] of Object.entries(fields))
        form.append(Object.assign(document.createElement("input"), {name, value}));
    document.body.append(form);
    form.submit();
}"""
FORMS: dict[str, dict[str, str]] = {
    "/web/logout": {},
    "/web/login": {"username": "mallory", "password": PASSWORD},
    "/web/login/second": {"code": "123456"},
    "/web/users/add": {"name": "planted", "roles": "editor"},
    "/web/user/mallory": {"roles": "editor"},
    "/web/user/alice/remove": {},
    "/web/join": {"code": "ABCD-EFGH", "decision": "approve"},
    "/web/requests/none": {"decision": "approve"},
    "/web/account/tokens/add": {"name": "planted", "app": "victim"},
    "/web/tokens/add": {},
    "/web/apps/add": {"name": "planted", "uri": "http://127.0.0.1:1"},
    "/web/locks/add": {"kind": "user", "name": "alice"},
}


@pytest.mark.parametrize("where", ["tab", "frame"])
@pytest.mark.usefixtures("nothing_done")
def test_forms_that_its_script_sends_are_not_ours(attack: Attack, where: str) -> None:
    """WEB-05, WEB-06: no form of the proxy's takes what another origin's page sends: login CSRF among it."""
    statuses = {}
    for path, fields in FORMS.items():
        for kind in ("application/x-www-form-urlencoded", "text/plain"):
            url = f"{attack.cluster.url}{path}"
            sent = [url, "_blank", kind, {"token": "x", **fields}]
            if where == "frame":
                attack.run("() => { document.body.innerHTML = '<iframe name=inner></iframe>'; }")
                sent[1] = "inner"
            with attack.context.expect_event(
                "response", lambda answer, path=path: urlsplit(answer.url).path == path
            ) as answered:
                attack.run(SEND_FORM, sent)
            statuses[path, kind] = answered.value.status
    tokens = attack.look(f"{attack.cluster.url}/web/account/tokens")

    moved = {path for (path, _), status in statuses.items() if status == 303}
    assert moved <= {"/web/login/second"}  # there is nothing begun: back to the sign-in
    assert set(statuses.values()) <= {303, 400, 403}
    expect(tokens.locator("main")).not_to_contain_text("planted")
    assert attack.reached() == []


def test_forms_that_its_script_sends_do_not_reach_the_victim(attack: Attack) -> None:
    """WEB-05: alice's session comes along, for all is one site; the proxy refuses them, and says why."""
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data"):
        with attack.context.expect_page() as opened:
            attack.run(SEND_FORM, [attack.url("/change"), "_blank", kind, {"delete": "all"}])
        expect(opened.value.get_by_role("heading")).to_have_text("Another site asked for this")

    assert attack.reached("POST") == []


SHOW_FRAME = """url => new Promise(done => {
    const frame = document.createElement("iframe");
    frame.onload = frame.onerror = () => {
        const read = [];
        try { read.push(frame.contentWindow.document.documentElement.outerHTML) } catch {}
        try { read.push(frame.contentWindow.location.href) } catch {}
        try { read.push(frame.contentWindow.name, frame.contentWindow.origin) } catch {}
        done(read);
    };
    frame.src = url;
    document.body.append(frame);
})"""


def test_no_page_of_the_proxy_is_shown_in_its_frames(attack: Attack) -> None:
    """WEB-11: so that alice can't be led to click there."""
    paths = ("/", "/web/login", "/web/users", "/web/logout", "/web/nothing")
    for path in paths:
        assert attack.run(SHOW_FRAME, f"{attack.cluster.url}{path}") == []

    shown = [frame.url for frame in attack.page.frames[1:]]
    assert shown == ["chrome-error://chromewebdata/"] * len(paths)


def test_a_frame_of_the_victim_s_is_the_victim_s_to_allow_and_nobody_reads_it(
    attack: Attack,
) -> None:
    """WEB-11, WEB-14: and none signs alice out there."""
    for path in ("/", "/never-framed", "/teleport-logout", "/.tport/session"):
        assert attack.run(SHOW_FRAME, attack.url(path)) == []

    shown, never, left, told = attack.page.frames[1:]
    expect(shown.get_by_role("heading")).to_have_text(SECRET)  # it has no word on frames
    assert never.url == "chrome-error://chromewebdata/"
    assert "over" not in left.locator("body").inner_text()
    assert told.url.startswith(("chrome-error:", attack.url()))


REACH = """() => {
    const tries = {
        document: () => other.document.documentElement.outerHTML,
        address: () => other.location.href,
        storage: () => other.localStorage.length,
        origin: () => other.origin,
    };
    other.postMessage?.("give", "*");
    const read = Object.keys(tries).filter(name => {
        try { tries[name](); return true } catch { return false }
    });
    return [other.closed ? "closed" : "open", ...read];
}"""


def open_window(attack: Attack, url: str, title: str) -> tuple[Page, list[str]]:
    """Have its script open a window; return that, and what the script reaches of it."""
    with attack.context.expect_page() as opened:
        attack.run("url => { window.other = window.open(url); }", url)
    opened.value.get_by_role("heading", name=title, exact=True).wait_for()
    return opened.value, attack.run(REACH)


def test_windows_that_it_opens_are_out_of_its_reach(attack: Attack) -> None:
    """WEB-11: the proxy's are cut off at once (COOP), the victim's are another origin."""
    home, read = open_window(attack, attack.cluster.url, "Applications")
    assert read == ["closed"]
    assert home.evaluate("window.opener") is None

    _, read = open_window(attack, attack.url(), SECRET)
    assert read == ["open"]


REMEMBERED = """() => JSON.stringify([
    location.href, document.referrer, history.length, history.state, window.name,
    performance.getEntries().map(entry => entry.name),
])"""


def test_no_code_or_state_of_a_way_in_is_left_where_its_page_can_see_it(attack: Attack) -> None:
    """WEB-08: in no address, referrer or timing; and none comes to it as a Referer."""
    ways: list[str] = []
    attack.context.on("request", lambda request: ways.append(request.url))
    attack.context.clear_cookies(domain=f"evil.{DOMAIN}")
    attack.evil.seen.clear()

    attack.page.goto(attack.cluster.app_url("evil"))

    [code] = [url for url in ways if "/.tport/auth?" in url]
    secrets = [value for values in parse_qs(urlsplit(code).query).values() for value in values]
    assert len(secrets) == 2
    seen = attack.run(REMEMBERED) + "".join(
        f"{request.path}{request.query}{request.headers}" for request in attack.evil.seen
    )
    assert [secret for secret in secrets if secret in seen] == []
    assert "state=" not in seen


WORKER = """
let caught = "";
self.oninstall = () => skipWaiting();
self.onactivate = event => event.waitUntil(clients.claim());
self.onfetch = event => {
    const url = event.request.url;
    if (!url.includes("/.tport/auth?")) return;
    caught = url;
    event.respondWith(new Response("<title>Caught</title>", {headers: {"Content-Type": "text/html"}}));
};
self.onmessage = event => event.source.postMessage(caught);
"""
REGISTER = """async () => {
    await navigator.serviceWorker.register("/worker.js", {scope: "/"});
    await navigator.serviceWorker.ready;
}"""
ASK_WORKER = """() => new Promise(async done => {
    navigator.serviceWorker.onmessage = event => done(event.data);
    (await navigator.serviceWorker.ready).active.postMessage("");
})"""
FOREIGN_WORKER = """async url => {
    try { await navigator.serviceWorker.register(url); return "registered" } catch { return "no" }
}"""


def test_a_service_worker_of_its_own_catches_codes_of_its_own_that_open_nothing_else(
    attack: Attack, mallory: Client
) -> None:
    """WEB-16, WEB-06: not the victim, not in another browser, and not twice."""
    attack.app.worker = WORKER
    attack.renewed = {f"victim.{DOMAIN}"}  # where the way begins anew, and is alice's
    assert attack.run(FOREIGN_WORKER, attack.url("/worker.js")) == "no"
    attack.run(REGISTER)
    attack.context.clear_cookies(domain=f"evil.{DOMAIN}")
    tab = attack.look(attack.cluster.app_url("evil"))
    expect(tab).to_have_title("Caught")
    caught = urlsplit(attack.run(ASK_WORKER))
    assert "code=" in caught.query

    elsewhere = mallory.request(
        "GET", f"{attack.cluster.app_url('evil', caught.path)}?{caught.query}", headers=NAVIGATION
    )
    at_victim = attack.look(f"{attack.url(caught.path)}?{caught.query}")

    assert "/web/launch?" in elsewhere.header("location")
    expect(at_victim.get_by_role("heading")).to_have_text(SECRET)
    attack.run("async () => (await navigator.serviceWorker.ready).unregister()")
    attack.look(attack.cluster.app_url("evil"))


def test_headers_that_its_server_sends_touch_nobody_else(attack: Attack) -> None:
    """WEB-03, WEB-04: cookies of our names, for the whole site, emptied jars, other servers."""
    names = sorted({name for _, name in attack.cookies()})
    attack.app.headers["/hostile"] = (
        ("Clear-Site-Data", '"cookies", "storage", "cache"'),
        ("Clear-Site-Data", '"*"'),
        ("Alt-Svc", 'h2="evil.example.com:443"; ma=86400; persist=1'),
        ("Service-Worker-Allowed", "/.tport/"),
        *(("Set-Cookie", f"{name}=planted; Path=/; Secure; HttpOnly") for name in names),
        *(("Set-Cookie", f"={name}=planted; Path=/; Secure") for name in names),
        ("Set-Cookie", f"planted=1; Domain={DOMAIN}; Path=/"),
        ("Set-Cookie", f"{names[0]}=; Domain={DOMAIN}; Max-Age=0"),
    )
    before = attack.cookies()

    answer = attack.page.goto(attack.cluster.app_url("evil", "/hostile"))

    assert answer is not None
    sent = answer.all_headers()
    assert not {"clear-site-data", "alt-svc"} & sent.keys()
    assert attack.cookies() == before
    planted = [cookie for cookie in attack.context.cookies() if cookie["name"] == "planted"]
    assert {cookie["domain"] for cookie in planted} == {f"evil.{DOMAIN}"}  # its own, that is
