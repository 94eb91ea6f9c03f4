"""Each page of the administration does its job on a real cluster, in Chromium, with script and without."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import (
    assert_calm,
    open_browser,
    open_context,
    sign_in,
    sign_up,
    trust,
)
from tests.e2e.harness import DOMAIN, PASSWORD, TPORT, Cluster
from tests.e2e.started_upstream import start_upstream

pytestmark = pytest.mark.e2e

SCRIPT = pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])


@pytest.fixture(scope="module")
def browser(cluster: Cluster) -> Iterator[Browser]:
    agent = cluster.start_agent_of("app_service: {enabled: yes, debug_app: true}\n")
    cluster.wait_for_app("dumper", agent)
    trust(cluster, f"--config={cluster.file}")
    cluster.signed_in("erin", "editor,access")
    with open_browser(cluster.home) as browser:
        yield browser


def open_as_editor(page: Page, cluster: Cluster, section: str) -> None:
    """Sign in as the editor, and go to a section as its link leads there."""
    page.goto(f"{cluster.url}/web/login")
    sign_in(page, "erin", PASSWORD)
    at(page, "Applications")
    page.get_by_role("link", name=section, exact=True).click()
    at(page, section)
    expect(page.get_by_role("link", name=section, exact=True)).to_have_attribute(
        "aria-current", "page"
    )


def at(page: Page, title: str) -> None:
    expect(page.locator("h1")).to_have_text(title)


@SCRIPT
def test_a_user_is_invited_changed_reset_and_removed(
    cluster: Cluster, browser: Browser, script: bool
) -> None:
    name = f"ann-{script}".lower()
    with open_context(browser, java_script_enabled=script) as (context, watch):
        page = context.new_page()
        open_as_editor(page, cluster, "Users")

        page.get_by_role("link", name="Add a user").click()
        page.get_by_label("User name").fill(name)
        page.get_by_label("Traits").fill("team=dev")
        page.get_by_label("access").check()
        page.get_by_role("button", name="Make the invite link").click()
        at(page, f"{name} is invited")
        link = page.locator("#link").inner_text()
        with open_context(browser) as (invited, _):
            sign_up(invited.new_page(), link, PASSWORD)

        page.get_by_role("link", name=name, exact=True).click()
        at(page, name)
        page.get_by_label("auditor").check()
        page.get_by_label("access").uncheck()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_contain_text(f"{name} was changed")
        [user] = [
            u for u in json.loads(cluster.tell("users", "ls", "--format=json")) if u["name"] == name
        ]
        assert user["roles"] == ["auditor"]

        page.get_by_role("link", name="New invite link").click()
        at(page, f"A new invite link for {name}?")
        page.get_by_role("button", name="Make the link").click()
        at(page, f"A new link for {name}")
        assert page.locator("#link").inner_text() != link

        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("link", name="Remove this user").click()
        page.get_by_role("button", name=f"Remove {name}").click()
        at(page, "Users")
        expect(page.get_by_role("status")).to_contain_text(f"{name} was removed")
        expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
        assert_calm(watch)


def test_the_copy_button_copies_the_invite_link(cluster: Cluster, browser: Browser) -> None:
    with open_context(browser, permissions=["clipboard-read", "clipboard-write"]) as (context, _):
        page = context.new_page()
        open_as_editor(page, cluster, "Users")
        page.goto(f"{cluster.url}/web/users/add")
        page.get_by_label("User name").fill("copied")
        page.get_by_label("access").check()
        page.get_by_role("button", name="Make the invite link").click()
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()

        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.locator("#link").inner_text()


def test_the_menu_and_the_sections_work_by_keyboard(cluster: Cluster, browser: Browser) -> None:
    with open_context(browser) as (context, _):
        page = context.new_page()
        open_as_editor(page, cluster, "Users")
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the page")
        expect(skip).to_be_focused()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"

        summary = page.locator("details.me > summary")
        summary.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
        expect(summary).to_be_focused()


def test_who_has_no_such_role_sees_no_section_and_gets_no_page(
    cluster: Cluster, browser: Browser
) -> None:
    with open_context(browser) as (context, _):
        page = context.new_page()
        sign_up(page, cluster.add_user("nora"), PASSWORD)
        expect(page.get_by_role("link", name="Users")).to_have_count(0)

        answer = page.goto(f"{cluster.url}/web/users")
        assert answer is not None
        assert answer.status == 403
        at(page, "This was refused")


@SCRIPT
def test_a_token_is_made_with_its_command_and_deleted(
    cluster: Cluster, browser: Browser, script: bool
) -> None:
    with open_context(browser, java_script_enabled=script) as (context, watch):
        page = context.new_page()
        open_as_editor(page, cluster, "Join tokens")
        page.get_by_role("link", name="Make a token").click()
        app = f"app-{script}".lower()
        page.get_by_label("Only for this application").fill(app)
        page.get_by_label("It lives for").select_option("1 day")
        page.get_by_role("button", name="Make the token").click()
        at(page, f"A join token for {app}")
        secret = page.locator("#secret").inner_text()
        assert secret in page.locator("#command").inner_text()

        page.get_by_role("link", name="All tokens").click()
        page.get_by_role("link", name=f"Delete {secret[:8]}").click()
        page.get_by_role("button", name="Delete the token").click()
        at(page, "Join tokens")
        expect(page.get_by_role("status")).to_contain_text(f"Token {secret[:8]}… was deleted")
        assert secret[:8] not in cluster.tell("tokens", "ls")
        assert_calm(watch)


@SCRIPT
def test_an_application_is_checked_by_its_agent(
    cluster: Cluster, browser: Browser, script: bool
) -> None:
    with open_context(browser, java_script_enabled=script) as (context, watch):
        page = context.new_page()
        open_as_editor(page, cluster, "Agents")
        expect(page.get_by_role("heading", name="dumper")).to_contain_text("up since")
        page.get_by_role("button", name="Check dumper").click()
        at(page, "Check of dumper")
        expect(page.get_by_text("It is the agent's own debug app")).to_be_visible()
        page.get_by_role("link", name="Open dumper").click()
        expect(page.locator("h1")).to_contain_text("It works")
        assert_calm(watch)


@SCRIPT
def test_an_application_is_added_by_pasting_one_command(
    cluster: Cluster, browser: Browser, script: bool
) -> None:
    """The command as shown, in a shell; the page notices by itself, has it checked, and opens it."""
    name = f"added-{script}".lower()
    upstream = start_upstream(cluster)
    with open_context(browser, java_script_enabled=script) as (context, watch):
        page = context.new_page()
        page.goto(f"{cluster.url}/web/login")
        sign_in(page, "erin", PASSWORD)
        page.get_by_role("link", name="Add an application").click()
        page.get_by_label("Name").fill(name)
        page.get_by_label("Where it is").fill(upstream.url)
        page.get_by_role("button", name="Show the command").click()
        at(page, f"Add {name}")
        command = page.locator("#command").inner_text()
        if not script:
            page.get_by_role("link", name="I have pasted it").click()
        expect(page.get_by_text("Nothing has come yet")).to_be_visible()

        path = f"{Path(TPORT).parent}:{cluster.env['PATH']}"
        data_dir = str(cluster.folder / name)
        cluster.spawn(["sh", "-c", command], env={"PATH": path, "TPORT_DATA_DIR": data_dir})
        if not script:
            page.get_by_role("button", name="Check what it needs").click()
        at(page, f"Check of {name}")
        expect(page.get_by_role("heading", name="Connection")).to_contain_text("works")
        page.get_by_role("link", name=f"Open {name}").click()
        expect(page).to_have_url(cluster.app_url(name))
        assert_calm(watch)


@SCRIPT
def test_a_session_is_ended_and_its_user_locked_out(
    cluster: Cluster, browser: Browser, script: bool
) -> None:
    name = f"lou-{script}".lower()
    with (
        open_context(browser, java_script_enabled=script) as (context, watch),
        open_context(browser) as (theirs, _),
    ):
        tab = theirs.new_page()
        sign_up(tab, cluster.add_user(name), PASSWORD)
        tab.goto(cluster.app_url("dumper"))
        expect(tab.locator("h1")).to_contain_text("It works")
        page = context.new_page()
        open_as_editor(page, cluster, "Sessions")
        page.get_by_role("link", name=f"End the session of {name} at dumper").click()
        page.get_by_role("button", name="End it").click()
        expect(page.get_by_role("status")).to_contain_text(f"{name}'s session at dumper was ended")
        page.get_by_role("link", name=f"End the sign-in of {name}").click()
        page.get_by_role("button", name="End it").click()
        expect(page.get_by_role("status")).to_contain_text(f"{name}'s sign-in was ended")
        tab.goto(cluster.app_url("dumper"))
        expect(tab).to_have_title(f"Sign in · {DOMAIN}")

        page.get_by_role("link", name="Locks", exact=True).click()
        page.get_by_role("link", name="Lock somebody out").click()
        page.get_by_label("Its name").fill(name)
        page.get_by_label("What they are told").fill("ask the office")
        page.get_by_role("button", name="Lock").click()
        expect(page.get_by_role("status")).to_contain_text(f"{name} is locked out from now on")
        sign_in(tab, name, PASSWORD)
        expect(tab.get_by_role("alert")).to_be_visible()

        page.get_by_role("link", name=f"Lift the lock on {name}").click()
        page.get_by_role("button", name="Lift it").click()
        expect(page.get_by_role("status")).to_contain_text(f"{name} is locked out no more")
        sign_in(tab, name, PASSWORD)
        expect(tab.locator("h1")).to_contain_text("It works")
        assert_calm(watch)


def test_applications_are_found_by_typing_by_label_and_by_arrows(
    cluster: Cluster, browser: Browser
) -> None:
    upstream = start_upstream(cluster)
    for name, labels in (("alpha", "env=prod"), ("beta", "env=dev"), ("gamma", "env=prod")):
        cluster.start_agent(name, upstream.url, f"--labels={labels}")
    with open_context(browser, viewport={"width": 1280, "height": 800}) as (context, watch):
        page = context.new_page()
        sign_up(page, cluster.add_user("finn"), PASSWORD)
        shown = page.locator("#tiles .tile:visible h3 a")
        expect(shown.filter(has_text="alpha")).to_be_visible()

        page.get_by_role("link", name="env=dev").click()
        expect(shown).to_have_text(["beta"])
        assert "label=env%3Ddev" in page.url
        page.reload()
        expect(shown).to_have_text(["beta"])
        page.get_by_role("link", name="env=dev").click()

        page.keyboard.press("/")
        expect(page.get_by_role("searchbox")).to_be_focused()
        page.keyboard.type("PROD")
        expect(shown).to_have_text(["alpha", "gamma"])
        page.keyboard.press("ArrowDown")
        expect(page.get_by_role("link", name="alpha")).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("link", name="gamma")).to_be_focused()
        page.keyboard.press("ArrowUp")
        expect(page.get_by_role("searchbox")).to_be_focused()
        page.keyboard.type(" gam")
        page.keyboard.press("Enter")
        expect(page).to_have_url(cluster.app_url("gamma"))
        assert_calm(watch)


@SCRIPT
def test_favourites_and_what_was_opened_last_are_at_hand(
    cluster: Cluster, browser: Browser, script: bool
) -> None:
    with open_context(browser, java_script_enabled=script) as (context, watch):
        page = context.new_page()
        sign_up(page, cluster.add_user(f"fay-{script}".lower()), PASSWORD)
        expect(page.get_by_role("heading", name="Favourites")).to_have_count(0)
        page.get_by_role("link", name="dumper").click()
        expect(page.locator("h1")).to_contain_text("It works")
        page.goto(cluster.url)
        opened = page.locator("section", has=page.get_by_role("heading", name="Opened last"))
        expect(opened.get_by_role("link")).to_have_text(["dumper"])

        page.get_by_role("button", name="dumper is a favourite").click()
        favourites = page.locator("section", has=page.get_by_role("heading", name="Favourites"))
        expect(favourites.get_by_role("link")).to_have_text(["dumper"])
        page.get_by_role("button", name="dumper is a favourite", pressed=True).click()
        expect(favourites).to_have_count(0)
        assert_calm(watch)


def test_who_would_open_what_follows_what_is_typed(cluster: Cluster, browser: Browser) -> None:
    """As the form's button tells it, to the letter; and what can't be meant is said beside it."""
    cluster.signed_in("rita", "access")
    with open_context(browser) as (context, watch):
        page = context.new_page()
        open_as_editor(page, cluster, "Roles")
        page.get_by_role("link", name="access", exact=True).click()
        who, said = page.locator("#who"), page.locator("#said")
        opens = page.get_by_label("Opens applications with these labels")
        expect(who.locator(".loses")).to_have_count(0)

        opens.fill("env=nowhere")
        expect(who).to_contain_text("this role opens nothing")
        expect(who.locator("#changes")).to_contain_text(
            re.compile(r"rita\s+loses .*dumper.*; may then open nothing")
        )
        live = " ".join(who.inner_text().split())
        opens.fill("env")
        expect(said).to_contain_text("name=value")
        opens.fill("env={{external.")
        expect(said).to_contain_text("external.")
        expect(who.locator("#told")).to_be_hidden()
        watch.complaints.clear()  # the browser's own line about the 400
        opens.fill("env=nowhere")
        expect(said).to_be_empty()
        page.get_by_role("button", name="Who would open what?").click()
        page.wait_for_load_state()
        assert " ".join(who.inner_text().split()) == live

        opens.fill("*=*")
        expect(who.locator("#changes")).to_be_hidden()
        assert_calm(watch)


@SCRIPT
def test_a_role_is_made_previewed_changed_as_yaml_and_deleted(
    cluster: Cluster, browser: Browser, script: bool
) -> None:
    name = f"role-{script}".lower()
    with open_context(browser, java_script_enabled=script) as (context, watch):
        page = context.new_page()
        open_as_editor(page, cluster, "Roles")
        page.get_by_role("link", name="Add a role").click()
        page.get_by_label("Name").fill(name)
        page.get_by_label("Opens applications with these labels").fill("*=*")
        page.get_by_role("button", name="Who would open what?").click()
        expect(page.locator("#who")).to_contain_text("dumper")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_contain_text(f"Role {name} was made")

        page.get_by_role("link", name="as YAML").click()
        text = page.get_by_label("The role, as Teleport writes it")
        right = text.input_value()
        text.fill(right.replace("app_labels", "app_label"))
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert")).to_contain_text("unknown field")
        watch.complaints.clear()  # the browser's own line about the 400
        text.fill(right)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_contain_text(f"Role {name} was changed")

        page.get_by_role("link", name="Delete this role").click()
        page.get_by_role("button", name=f"Delete {name}").click()
        expect(page.get_by_role("status")).to_contain_text(f"Role {name} was deleted")
        assert_calm(watch)
