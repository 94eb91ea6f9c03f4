from __future__ import annotations

import pytest

from tport.engine.preflight.names import Lookup, Names, judge_names
from tport.engine.preflight.row import Row

NAME = "tport.example.com"
PUBLIC, PUBLIC_6, PRIVATE = "198.41.0.4", "2001:503:ba3e::2:30", "10.1.2.3"


def found(name: str, *addresses: str) -> Lookup:
    return Lookup(name=name, state="found", addresses=addresses)


def none(name: str) -> Lookup:
    return Lookup(name=name, state="none")


def failed(name: str) -> Lookup:
    return Lookup(name=name, state="failed")


def judged(
    proxy: Lookup,
    wildcard: Lookup,
    *apps: Lookup,
    control: Lookup = found("ca.example.net", "192.0.2.1"),
    own: tuple[str, ...] = (PUBLIC,),
    needs_public: bool = False,
) -> list[Row]:
    return judge_names(
        Names(
            proxy=(proxy,),
            wildcards=(wildcard,),
            apps=apps,
            control=control,
            own=own,
            needs_public=needs_public,
        )
    )


@pytest.mark.parametrize(
    ("needs_public", "verdict"), [(False, "unknown"), (True, "problem")], ids=["own CA", "ACME"]
)
@pytest.mark.parametrize("proxy", [none(NAME), failed(NAME)], ids=["no name", "no answer"])
def test_a_machine_without_dns_is_told_in_one_row(
    proxy: Lookup, needs_public: bool, verdict: str
) -> None:
    """It is a problem where a certificate authority must be found; the records are named anyway."""
    (row,) = judged(
        proxy,
        failed(f"x.{NAME}"),
        none("shop.example.org"),
        control=failed("ca.example.net"),
        needs_public=needs_public,
    )

    assert (row.check, row.verdict) == ("dns", verdict)
    assert f"neither of {NAME}, ca.example.net is known" in row.found
    assert f"{NAME}. 300 IN A {PUBLIC} and *.{NAME}. 300 IN CNAME {NAME}." in row.advice


def test_missing_records_come_with_the_line_to_add() -> None:
    name, wildcard = judged(none(NAME), none(f"x.{NAME}"), own=(PRIVATE, PUBLIC, PUBLIC_6))

    assert (name.check, name.verdict) == (f"dns {NAME}", "problem")
    assert name.advice == (
        f"add to the zone: {NAME}. 300 IN A {PUBLIC} and {NAME}. 300 IN AAAA {PUBLIC_6}"
    )
    assert (wildcard.check, wildcard.verdict) == (f"dns *.{NAME}", "problem")
    assert wildcard.advice == f"add to the zone: *.{NAME}. 300 IN CNAME {NAME}."


def test_a_private_address_is_proposed_only_where_the_internet_need_not_come() -> None:
    inside, _ = judged(none(NAME), none(f"x.{NAME}"), own=(PRIVATE,))
    outside, _ = judged(none(NAME), none(f"x.{NAME}"), own=(PRIVATE,), needs_public=True)

    assert inside.advice.endswith(f"IN A {PRIVATE}")
    assert outside.advice.endswith("IN A <the address at which others reach it>")


def test_names_that_lead_here_are_well() -> None:
    rows = judged(
        found(NAME, PUBLIC), found(f"x.{NAME}", PUBLIC), found("shop.example.org", PUBLIC)
    )

    assert [row.verdict for row in rows] == ["ok", "ok", "ok"]
    assert rows[0].found == f"{PUBLIC}, this machine"
    assert [row.advice for row in rows] == ["", "", ""]


def test_a_balancers_address_is_no_fault() -> None:
    name, _ = judged(found(NAME, "192.0.2.7"), found(f"x.{NAME}", "192.0.2.7"))

    assert name.verdict == "ok"
    assert "no address of this machine" in name.found


def test_an_address_that_the_authority_cannot_reach_is_a_fault_with_acme_alone() -> None:
    looked = found(NAME, PRIVATE), found(f"x.{NAME}", PRIVATE)

    assert judged(*looked)[0].verdict == "ok"
    assert judged(*looked, needs_public=True)[0].verdict == "problem"


def test_an_entry_in_this_machines_hosts_says_nothing_about_others() -> None:
    """Debian writes `127.0.1.1 name` there."""
    name, _ = judged(found(NAME, "127.0.1.1"), found(f"x.{NAME}", "127.0.1.1"))

    assert name.verdict == "unknown"
    assert name.advice == f"ask elsewhere: dig +short {NAME}"


@pytest.mark.parametrize("index", [1, 2], ids=["wildcard", "application"])
def test_names_that_lead_elsewhere_than_the_proxy_are_told_with_the_line(index: int) -> None:
    others = [found(f"x.{NAME}", PUBLIC), found("shop.example.org", PUBLIC)]
    others[index - 1] = found(others[index - 1].name, "192.0.2.9")

    row = judged(found(NAME, PUBLIC), *others)[index]

    assert row.verdict == "problem"
    assert row.found == f"192.0.2.9, and the proxy is at {PUBLIC}"
    assert f"300 IN CNAME {NAME}." in row.advice


def test_records_for_each_application_do_for_a_wildcard() -> None:
    name = found(NAME, PUBLIC)
    grafana = found(f"grafana.{NAME}", PUBLIC)

    assert judged(name, none(f"x.{NAME}"), grafana)[1].verdict == "ok"
    assert judged(name, none(f"x.{NAME}"), none(f"grafana.{NAME}"))[1].verdict == "problem"
    assert judged(name, none(f"x.{NAME}"))[1].verdict == "problem"  # agents elsewhere have some


def test_a_record_below_the_wildcard_is_told_of_only_when_it_leads_elsewhere() -> None:
    zone = found(NAME, PUBLIC), found(f"x.{NAME}", PUBLIC)

    assert len(judged(*zone, found(f"a.{NAME}", PUBLIC))) == 2
    (*_, row) = judged(*zone, found(f"a.{NAME}", "192.0.2.9"))
    assert (row.check, row.verdict) == (f"dns a.{NAME}", "problem")


def test_a_server_that_gave_no_answer_this_time_proves_nothing() -> None:
    rows = judged(found(NAME, PUBLIC), failed(f"x.{NAME}"), failed("shop.example.org"))

    assert [row.verdict for row in rows] == ["ok", "unknown", "unknown"]


def test_names_below_localhost_need_no_dns() -> None:
    (row,) = judge_names(
        Names(proxy=(), wildcards=(), control=failed("a.test"), here_only=("tport.localhost",))
    )

    assert row.verdict == "ok"
    assert "others don't reach it" in row.found
