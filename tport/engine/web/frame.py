"""What stands around every page of a signed-in person: the list of sections, and of the menu.

A page joins by a line here. Who doesn't have the rule doesn't see the section; that the page is
refused to them as well is auth's doing, at each call.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tport.engine.api.callers import Rule


class Entry(NamedTuple):
    """A link of the frame.

    Attributes:
        path: of its first page; all below it belong to it. "": the Applications page.
        rule: kind and verb that the person's roles must allow; None: everybody's.
        also: other paths that belong to it.
    """

    title: str
    path: str
    rule: Rule
    also: tuple[str, ...] = ()


SECTIONS: Final[tuple[Entry, ...]] = (
    Entry("Applications", "", None, also=("/web/apps",)),
    Entry("Agents", "/web/agents", ("app_server", "list"), also=("/web/app", "/web/check")),
    Entry("Certificates", "/web/certificates", ("app_server", "list")),
    Entry("Join tokens", "/web/tokens", ("token", "list"), also=("/web/token", "/web/join")),
    Entry("Users", "/web/users", ("user", "list"), also=("/web/user",)),
    Entry("Roles", "/web/roles", ("role", "list"), also=("/web/role",)),
    Entry("Sessions", "/web/sessions", ("session", "list"), also=("/web/session",)),
    Entry("Locks", "/web/locks", ("lock", "list"), also=("/web/lock",)),
    Entry("Requests", "/web/requests", ("access_request", "list")),
    Entry("Audit", "/web/audit", ("event", "list")),
    Entry("Settings", "/web/settings", ("cluster_auth_preference", "read")),
)

# Behind the person's name, above "Sign out".
MENU: Final[tuple[Entry, ...]] = (
    Entry("Account", "/web/account", None),
    Entry("Your sessions", "/web/account/sessions", None, also=("/web/account/session",)),
    Entry("Device tokens", "/web/account/tokens", None, also=("/web/account/token",)),
)
