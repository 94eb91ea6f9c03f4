"""What a process tells its operator: not at the public port, and with nothing in it that opens anything."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.security.test_proxy_hsts import file_pair
from tests.stack import DOMAIN, PASSWORD, Stack, open_stack
from tport.engine.config.model import AuditLogs
from tport.engine.diag.service import PATHS
from tport.engine.metrics.catalogue import METRICS


async def scrape(stack: Stack) -> dict[str, dict[tuple[str, ...], float]]:
    """Return each line's value, by its name and its labels' values."""
    answer = await stack.diagnose("/metrics")
    assert answer.status == 200
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.mark.parametrize("request_log", [True, False])
async def test_requests_are_told_by_application_and_class_as_they_went(request_log: bool) -> None:
    async with open_stack(
        diagnostics=True, drain=False, audit=AuditLogs(request_log=request_log)
    ) as stack:
        alice = await stack.user("alice")
        for _ in range(3):
            assert (await alice.get("echo", "/a?b=c")).status == 200
        stack.raw_app.script = stack.raw_app.hang_up
        assert (await alice.get("raw")).status == 502
        assert (await stack.request(stack.host("echo"))).status == 401  # not let through

        found = await scrape(stack)

    assert found["tport_requests_total"] == {("echo", "2xx"): 3, ("raw", "5xx"): 1}
    assert found["tport_request_seconds_count"] == {("echo",): 3, ("raw",): 1}
    assert found["tport_unanswered_total"] == {("broken",): 1}
    assert found["tport_tunnels"] == {(): 1}
    assert found["tport_agent_tunnels"] == {(): 1}
    assert found["tport_sessions"] == {("web",): 1, ("app",): 2, ("device-token",): 0}
    assert found["tport_storage_seconds_count"][("write",)] > 0
    assert found["process_state"] == {(): 0}


async def test_every_figure_of_the_catalogue_is_told_by_a_process_that_has_all_roles() -> None:
    async with open_stack(diagnostics=True, drain=False) as stack:
        alice = await stack.user("alice")
        await alice.get("raw")
        with_units = {name.partition("{")[0].partition(" ")[0] for name in await lines(stack)}

    families = {name.removesuffix("_bucket") for name in with_units}
    # Told a few seconds later, when the proxy has told auth of its certificates.
    assert set(METRICS) - families <= {"tport_certificate_days_left", "tport_agent_app_up"}


async def lines(stack: Stack) -> list[str]:
    text = (await stack.diagnose("/metrics")).body.decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


async def test_ops_03_no_secret_and_no_persons_name_is_in_what_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """OPS-03."""
    caplog.set_level(logging.DEBUG, "tport")
    async with open_stack(diagnostics=True, drain=False) as stack:
        alice = await stack.user("alice-canary")
        await alice.get("echo", "/path-canary?query-canary", Authorization="Bearer header-canary")
        token = await stack.admin.create_token(
            roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
        )
        told = b"".join([(await stack.diagnose(path)).body for path in PATHS]).decode()

    assert "tport_requests_total" in told
    for secret in (
        *(alice.web, *alice.apps.values(), token.token, PASSWORD),
        *("alice-canary", "path-canary", "query-canary", "header-canary"),
    ):
        assert secret not in told, secret
        if secret not in ("alice-canary", "path-canary"):
            assert secret not in caplog.text, secret


async def test_ag_18_nothing_of_it_is_at_the_public_port() -> None:
    async with open_stack(diagnostics=True, drain=False) as stack:
        alice = await stack.user("alice")
        for path in ("/metrics", "/readyz"):
            for host in (DOMAIN, stack.host("nobody"), "127.0.0.1"):
                answer = await stack.request(host, path, server_name=DOMAIN)
                assert b"tport_" not in answer.body
                assert b"degraded" not in answer.body
                assert answer.status in (302, 303, 401, 404, 421), (host, path)
            assert (await alice.get("echo", path)).body == b"hello"  # the application's own
        public = json.loads((await stack.request(DOMAIN, "/healthz")).body)
        assert "why" not in public


async def test_a_process_that_stops_leaves_the_balancer_before_it_ends() -> None:
    async with open_stack(diagnostics=True) as stack:
        assert (await stack.diagnose("/readyz")).status == 200
        stack.stop.set()
        answer = await stack.diagnose("/readyz")
        assert answer.status == 503
        assert json.loads(answer.body)["why"][0].startswith("process: stopping")
        assert (await stack.diagnose("/healthz")).status == 200


async def test_a_request_has_one_id_in_the_lines_of_proxy_and_agent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tport")
    async with open_stack(drain=False) as stack:
        alice = await stack.user("alice")
        stack.raw_app.script = stack.raw_app.hang_up
        await alice.get("raw")
        [told] = [
            each for each in await stack.requests(app_name="raw") if each["status_code"] == 502
        ]

    ids = {
        record.name.split(".")[2]: getattr(record, "request_id", None)
        for record in caplog.records
        if hasattr(record, "request_id")
    }
    assert ids == {"proxy": told["uid"], "agent": told["uid"]}


async def test_changed_certificates_that_cannot_be_taken_are_a_warning_and_counted(
    tmp_path: Path,
) -> None:
    """The old ones serve on: a balancer that left every proxy for that would end the service."""
    pair = file_pair(tmp_path, DOMAIN, f"*.{DOMAIN}")
    async with open_stack(key_pairs=[pair], diagnostics=True, drain=False) as stack:
        assert (await scrape(stack))["tport_certificate_reload_failures_total"] == {(): 0}
        pair.cert_file.write_text("no certificate")
        stack.reload(stack.running.config.app_service)
        with trio.fail_after(10):
            while True:
                failures = (await scrape(stack))["tport_certificate_reload_failures_total"]
                if failures == {(): 1}:
                    break
                await trio.sleep(0.02)  # files are read in real time
        answer = await stack.diagnose("/readyz")

    told = json.loads(answer.body)
    assert (answer.status, told["status"]) == (200, "ok")
    [warning] = told["warnings"]
    assert warning.startswith(f"proxy: the certificate of {DOMAIN} (file): good, with a problem")


async def test_an_agent_without_a_tunnel_is_not_ready_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_stack(diagnostics=True, drain=False) as stack:
        monkeypatch.setattr("tport.engine.agent.tunnel.TunnelKeeper.connected", False)
        answer = await stack.diagnose("/readyz")

    assert answer.status == 503
    assert json.loads(answer.body)["degraded"] == ["agent"]
    assert "no tunnel to the proxy" in json.loads(answer.body)["why"][0]


async def test_a_proxy_that_does_not_hear_auth_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_stack(diagnostics=True, drain=False) as stack:
        monkeypatch.setattr("tport.engine.api.cache.AuthCache.age", 20.4)
        answer = await stack.diagnose("/readyz")

    assert answer.status == 503
    assert "proxy: auth has said nothing for 20 s" in json.loads(answer.body)["why"]
