"""The page about certificates, and what the other pages say of an application without one."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from msgspec.structs import replace

from tests.engine.auth.world import GRAFANA
from tests.engine.web.browser import Visitor
from tests.engine.web.office import Office
from tests.fakes import START
from tport.engine.types.certificate import CertState

STATES = (
    CertState(
        host="proxy.test",
        source="file",
        names=("proxy.test", "*.proxy.test"),
        issuer="R11",
        key="ECDSA P-256",
        not_after=START + timedelta(days=60),
        last_attempt=START,
        path="/etc/tls/cert.pem",
    ),
    CertState(
        host="grafana.proxy.test",
        source="acme",
        last_attempt=START,
        problem="too many <certificates> already issued",
        next_try=START + timedelta(hours=1),
    ),
    CertState(host="odd.test", source="none", problem="needs a certificate: x", advice="give one"),
)


@pytest.fixture
async def editor(office: Office) -> Visitor:
    return await office.person("erin", "editor")


async def test_of_each_host_all_is_shown_and_first_what_needs_somebody(
    office: Office, editor: Visitor
) -> None:
    assert "No proxy has told" in (await editor.get("/web/certificates")).text
    await office.world.serve(replace(GRAFANA, public_addr="odd.test"))
    [proxy] = office.world.service.presence.proxies
    await office.world.caller("proxy", name=proxy).report_certificates(states=STATES)

    text = (await editor.get("/web/certificates")).text
    page = unescape(text)

    assert re.findall(r"<h2>([^ ]+) <span", page) == [
        "grafana.proxy.test",
        "odd.test",
        "proxy.test",
    ]
    assert "Too many &lt;certificates&gt; already issued." in text
    assert "tried again from <time" in page
    assert "For proxy.test, *.proxy.test" in page
    assert "Signed by R11, ECDSA P-256" in page
    assert "/etc/tls/cert.pem" in page


async def test_an_application_without_a_certificate_is_red_on_both_pages(
    office: Office, editor: Visitor
) -> None:
    await office.world.serve(replace(GRAFANA, public_addr="odd.test"))
    [proxy] = office.world.service.presence.proxies
    await office.world.caller("proxy", name=proxy).report_certificates(states=STATES)

    agents = unescape((await editor.get("/web/agents")).text)
    assert re.search(r'<h3>grafana <span class="badge bad">needs a certificate<', agents)
    assert "https_keypairs" in agents

    alice = await office.person("alice", "access")
    apps = unescape(
        (await alice.get(f"/web/cluster/{office.world.service.cluster.name}/apps")).text
    )
    assert '<span class="down">needs a certificate</span>' in apps
