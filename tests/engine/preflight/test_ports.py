from __future__ import annotations

import pytest

from tport.engine.preflight.ports import Port, Reach, judge_acme_port, judge_port, judge_reach


def port(state: str, said: str = "", advice: str = "") -> Port:
    assert state in ("free", "serving", "taken", "forbidden")
    return Port(address=":443", port=443, state=state, said=said, advice=advice)  # type: ignore[arg-type] # one of the four


@pytest.mark.parametrize(
    ("state", "verdict"),
    [("free", "ok"), ("serving", "ok"), ("forbidden", "unknown"), ("taken", "problem")],
)
def test_a_port_is_free_or_tports_or_somebodys(state: str, verdict: str) -> None:
    row = judge_port("port", port(state, "port 443 is in use by nginx, process 8", "stop that"))

    assert row.verdict == verdict
    if state == "taken":
        assert row.found == ":443: port 443 is in use by nginx, process 8"
        assert row.advice == "stop that"
    if state == "forbidden":
        assert "sudo" in row.advice


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        ("here", "ok"),
        ("tport", "ok"),
        ("other", "problem"),
        ("failed", "unknown"),  # many routers don't let one in from inside
    ],
)
def test_from_inside_only_a_wrong_answer_is_surely_wrong(outcome: str, verdict: str) -> None:
    reach = Reach(address="tport.example.com:443", outcome=outcome, said="refused")  # type: ignore[arg-type] # one of them

    row = judge_reach("reachable", reach)

    assert row.verdict == verdict
    assert ("curl" in row.advice) == (outcome == "failed")


@pytest.mark.parametrize(
    ("public", "listen", "verdict"),
    [(443, 443, "ok"), (443, 3080, "unknown"), (3080, 3080, "problem")],
)
def test_tls_alpn_01_comes_to_port_443(public: int, listen: int, verdict: str) -> None:
    assert judge_acme_port(public, listen).verdict == verdict


@pytest.mark.parametrize(("http", "verdict"), [(80, "ok"), (8080, "unknown")])
def test_cas_come_to_port_80_wherever_the_public_port_is(http: int, verdict: str) -> None:
    assert judge_acme_port(3080, 3080, http=http).verdict == verdict


def test_dns_01_needs_no_port() -> None:
    assert judge_acme_port(3080, 3080, by_dns=True).verdict == "ok"
