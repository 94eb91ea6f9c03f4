"""The Applications page: what a person may open, found by a word, a label or a habit."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.catalogue import OwnApp
from tport.engine.errors import NotFound
from tport.engine.web.account import ACCOUNT
from tport.engine.web.errors import Since
from tport.engine.web.icons import icon_path, icon_url
from tport.engine.web.requests import LIST as REQUESTS
from tport.engine.web.respond import redirect
from tport.engine.web.site import RECOVERED, Site, clock_time
from tport.engine.web.visit import SignedInRoutes, Visit

MAX_SEARCH: Final = 200  # characters
MAX_LABELS: Final = 30  # to choose from; those of the most applications
MAX_CHOSEN: Final = 8
MAX_RECENT: Final = 4  # shown
HUES: Final = 6  # colours of the letters that stand for icons, in tport.css
LACKS: Final = "needs a certificate"
ADMINISTERS: Final = ("app_server", "list")
DECIDES: Final = ("access_request", "list")


class Tile(NamedTuple):
    """An application as the template shows it.

    Attributes:
        icon_url: "": none is known. `icon_path`: where one would be.
        home: the group in which it stands when it is no favourite.
        opened: sorts by when; "": it isn't known.
        text: what the search looks through.
    """

    name: str
    url: str
    host: str
    description: str
    labels: tuple[str, ...]
    state: str
    mood: str
    since: Since | None
    favourite: bool
    star_url: str
    hue: int
    icon_path: str
    icon_url: str
    home: str
    opened: str
    text: str
    match: bool


class Choice(NamedTuple):
    """A label by which applications are chosen; `url` takes it in, or leaves it out."""

    label: str
    apps: int
    chosen: bool
    url: str


class Group(NamedTuple):
    """Applications that stand together; there may be none."""

    id: str
    title: str
    tiles: Sequence[Tile]


class Wanted(NamedTuple):
    """What the address asks for: words (lower case), and labels; all must fit."""

    search: str
    labels: tuple[str, ...]

    @property
    def terms(self) -> list[str]:
        return self.search.lower().split()


class Refused(NamedTuple):
    """An application that an agent has and people don't get."""

    name: str
    agent: str
    reason: str


class AppPages:
    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.get("/web/cluster/{cluster}/apps", self.apps),
            signed_in.form("/web/app/{name}/favourite", self.back, self.mark),
        ]

    async def index(self, request: Request) -> Response:
        """GET /"""
        if await self._site.session(request) is None:
            return redirect("/web/login")
        return redirect(self._site.apps_url)

    async def apps(self, visit: Visit) -> Response:
        """GET /web/cluster/{cluster}/apps?q=<words>&label=<name=value>"""
        if visit.part("cluster") != self._site.cluster:
            raise NotFound("another cluster")
        return await self._page(visit)

    async def _page(self, visit: Visit) -> Response:
        query = visit.request.query_params
        wanted = Wanted(query.get("q", "")[:MAX_SEARCH], tuple(query.getlist("label"))[:MAX_CHOSEN])
        own = await visit.auth.own_apps()
        tiles = {app.name: make_tile(app, wanted, visit) for app in own}
        some_elsewhere = False
        if not tiles:
            servers = await self._site.auth.list_app_servers()
            some_elsewhere = any(not server.refused for server in servers)
        return await visit.page(
            "apps.html",
            q=wanted.search,
            chosen=wanted.labels,
            choices=choices(own, wanted, self._site.apps_url),
            groups=grouped(own, tiles),
            all=len(tiles),
            shown=sum(tile.match for tile in tiles.values()),
            some_elsewhere=some_elsewhere,
            refused=await _refused(visit),
            waiting=await _waiting(visit),
            codes_left=await _codes_left(visit),
            account_url=ACCOUNT,
            requests_url=REQUESTS,
        )

    async def back(self, visit: Visit) -> Response:
        """GET /web/app/{name}/favourite: there is nothing to see but what went wrong."""
        return await self._page(visit) if visit.problem else redirect(self._site.apps_url)

    async def mark(self, visit: Visit) -> Response:
        """POST /web/app/{name}/favourite: `on` makes it one, "" takes it back."""
        favourite = visit.form.get("on", "") == "1"
        await visit.auth.mark_favourite(app=visit.part("name"), favourite=favourite)
        return visit.done(self._site.apps_url, "")


def make_tile(app: OwnApp, wanted: Wanted, visit: Visit) -> Tile:
    """Prepare an application; it matches when each word is in its texts, and each label its own."""
    labels = tuple(f"{key}={value}" for key, value in sorted(app.labels.items()))
    state, mood = state_of(up=app.up, answers=app.answers, lacks_certificate=app.lacks_certificate)
    text = " ".join((app.name, app.address, app.description, *labels)).lower()
    return Tile(
        name=app.name,
        url=app_url(app.address),
        host=app.address,
        description=app.description,
        labels=labels,
        state=state,
        mood=mood,
        since=clock_time(app.since, visit.now) if app.since and state != LACKS else None,
        favourite=app.favourite,
        star_url=f"/web/app/{quote(app.name, safe='')}/favourite",
        hue=zlib.crc32(app.name.encode()) % HUES,
        icon_path=icon_path(app.name),
        icon_url=icon_url(app),
        home="recent" if app.opened else "rest",
        opened=f"{app.opened:%Y-%m-%dT%H:%M:%S.%f}" if app.opened else "",
        text=text,
        match=all(term in text for term in wanted.terms) and set(wanted.labels) <= set(labels),
    )


def state_of(*, up: bool, answers: bool | None, lacks_certificate: bool = False) -> tuple[str, str]:
    """Return how an application is, in words before "since", and whether that is "good" or "bad"."""
    if not up:
        return "no agent connected", "bad"
    if lacks_certificate and answers is not False:
        return LACKS, "bad"
    if answers is None:
        return "agent connected", ""
    return ("up", "good") if answers else ("down", "bad")


def app_url(address: str) -> str:
    """Return where people open the application at this host[:port]."""
    return f"https://{address.removesuffix(':443')}/"


def grouped(own: Sequence[OwnApp], tiles: Mapping[str, Tile]) -> list[Group]:
    """Part what is at hand from the rest; each application stands once."""
    favourites = [app.name for app in own if app.favourite]
    opened = sorted(
        ((app.opened, app.name) for app in own if app.opened and not app.favourite), reverse=True
    )
    recent = [name for _, name in opened[:MAX_RECENT]]
    rest = [app.name for app in own if app.name not in (*favourites, *recent)]
    parted = (
        ("favourites", "Favourites", favourites),
        ("recent", "Opened last", recent),
        ("rest", "All others", rest),
    )
    return [Group(id_, title, [tiles[name] for name in names]) for id_, title, names in parted]


def choices(own: Sequence[OwnApp], wanted: Wanted, path: str) -> list[Choice]:
    """Return the labels that part these applications: not those that all have."""
    count = Counter(f"{key}={value}" for app in own for key, value in app.labels.items())
    parting = [label for label, number in count.most_common() if number < len(own)]
    shown = sorted({*parting[:MAX_LABELS], *wanted.labels})
    found = []
    for label in shown:
        is_chosen = label in wanted.labels
        kept = [each for each in wanted.labels if each != label]
        labels = kept if is_chosen else [*kept, label]
        query = [("q", wanted.search)] if wanted.search else []
        query += [("label", each) for each in labels]
        url = f"{path}?{urlencode(query)}" if query else path
        found.append(Choice(label[:200], count[label], is_chosen, url))
    return found


async def _codes_left(visit: Visit) -> int | None:
    """Return how many recovery codes are left, after one was used; else None.

    Whoever writes such a link makes the page say what is true of its reader.
    """
    if RECOVERED not in visit.request.query_params:
        return None
    return (await visit.auth.own_account()).recovery_left


async def _waiting(visit: Visit) -> list[str]:
    """Return who waits for somebody to decide on access, for who may see that; else nobody."""
    if DECIDES not in await visit.auth.own_rights():
        return []
    asked = await visit.auth.list_requests()
    waiting = (each.user for each in asked if each.state == "pending")
    return sorted({user for user in waiting if user != visit.session.user})


async def _refused(visit: Visit) -> list[Refused]:
    """Return what agents would offer and can't, for who administers; else nothing."""
    if ADMINISTERS not in await visit.auth.own_rights():
        return []
    return [
        Refused(info.name, server.hostname or server.host_id, server.refused)
        for info in await visit.auth.list_apps()
        for server in info.refused
    ]
