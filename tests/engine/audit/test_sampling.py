"""A flood of failures leaves a trace of bounded length, and nothing else is left out for it."""

from __future__ import annotations

from tport.engine.audit.sampling import MAX_KEYS, Sampling
from tport.engine.defaults import FAILURES_WRITTEN, SAME_FAILURES_WRITTEN
from tport.engine.types.event import CODES, event


def test_dos_10_of_one_person_and_address_the_first_are_written_and_the_rest_counted() -> None:
    """DOS-10."""
    sampling = Sampling()
    failure = event("user.login.failed", user="alice", remote="192.0.2.1")

    written = sum(sampling.admits(failure) for _ in range(500))

    assert written == SAME_FAILURES_WRITTEN
    [told] = sampling.next_minute()
    assert told == event(
        "audit.sampled",
        event="user.login",
        event_code=CODES["user.login.failed"],
        count=500 - written,
        user="alice",
        remote="192.0.2.1",
    )


def test_dos_10_from_any_number_of_addresses_there_are_no_more_than_so_many() -> None:
    """DOS-10."""
    sampling = Sampling()

    written = sum(
        sampling.admits(event("auth.failed", remote=f"2001:db8::{number:x}", call="x"))
        for number in range(2 * MAX_KEYS)
    )

    assert written == FAILURES_WRITTEN
    [told] = sampling.next_minute()
    assert told.fields["count"] == 2 * MAX_KEYS - FAILURES_WRITTEN


def test_dos_10_states_that_no_sign_in_by_a_provider_has_are_no_way_around_it() -> None:
    """DOS-10. Anybody may call a callback's address, with a state of their own."""
    sampling = Sampling()
    failure = event("user.login.sso.failed", user="", method="", remote="192.0.2.1")

    written = sum(sampling.admits(failure) for _ in range(500))

    assert written == SAME_FAILURES_WRITTEN


def test_dos_10_names_that_an_agent_invents_are_no_way_around_it() -> None:
    """DOS-10. An agent says at which address its application is, and a certificate is ordered for it."""
    sampling = Sampling()

    written = sum(
        sampling.admits(event("acme.order.failed", host=f"{number}.test", ca="https://ca.test"))
        for number in range(500)
    )

    assert written == SAME_FAILURES_WRITTEN
    assert sampling.admits(event("acme.order", host="a.test", ca="https://ca.test"))


def test_dos_10_names_that_an_agent_may_not_offer_are_no_way_around_it_and_hide_no_other_agent_s() -> (
    None
):
    """DOS-10. It may offer a thousand new ones each second."""
    sampling = Sampling()

    def refused(agent: str, number: int) -> bool:
        return sampling.admits(
            event("app.refused", server_id=agent, hostname="h", app_name=f"a{number}", error="no")
        )

    written = sum(refused("lost", number) for number in range(1000))

    assert written == SAME_FAILURES_WRITTEN
    assert refused("honest", 1)
    [told] = sampling.next_minute()
    assert (told.fields["server_id"], told.fields["count"]) == ("lost", 1000 - written)


def test_who_floods_leaves_room_for_the_failures_of_others() -> None:
    sampling = Sampling()
    for _ in range(10_000):
        sampling.admits(event("app.access.denied", user="mallory"))

    assert sampling.admits(event("app.access.denied", user="alice"))


def test_what_was_done_or_happens_but_once_is_never_left_out() -> None:
    sampling = Sampling()

    for type_ in ("user.login", "user.locked", "role.created", "instance.copied", "audit.lost"):
        assert all(sampling.admits(event(type_, user="alice")) for _ in range(2000)), type_
    assert sampling.next_minute() == []


def test_each_minute_begins_anew() -> None:
    sampling = Sampling()
    failure = event("tunnel.protocol_error", **{"addr.remote": "192.0.2.1"})
    for _ in range(100):
        sampling.admits(failure)

    assert sampling.next_minute()[0].fields["remote"] == "192.0.2.1"
    assert sampling.admits(failure)
    assert sampling.next_minute() == []
