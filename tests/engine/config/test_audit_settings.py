"""How long logs are kept is days or forever, and nothing that could be meant otherwise."""

from __future__ import annotations

import pytest

from tests.engine.config.places import read
from tport.engine.config.model import AuditLogs
from tport.engine.config.words import parse_retention
from tport.engine.errors import InvalidRequest


def test_without_a_setting_events_are_kept_for_ever_and_requests_without_their_query() -> None:
    assert read("auth_service: {}").auth_service.audit == AuditLogs(
        retention=None, request_log=True, request_log_retention=90, include_query=False
    )


def test_each_setting_counts() -> None:
    text = (
        "auth_service: {audit: {retention: 365d, request_log: off,"
        " request_log_retention: forever, include_query: yes}}"
    )
    assert read(text).auth_service.audit == AuditLogs(
        retention=365, request_log=False, request_log_retention=None, include_query=True
    )


@pytest.mark.parametrize("text", ["", "90", "0d", "-1d", "1.5d", "24h", "never", "999999d"])
def test_a_retention_that_is_no_days_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="expected days like 90d, or forever") as told:
        parse_retention(text)
    assert ("did you mean '90d'?" in str(told.value)) == (text == "90")
