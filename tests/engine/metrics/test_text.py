"""What is scraped is read by Prometheus's own reader as it was meant."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tport.engine.metrics.catalogue import METRICS, REQUEST_BOUNDS
from tport.engine.metrics.sample import Histogram, Sample, Totals, gathered, one
from tport.engine.metrics.text import metrics_text

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"


def read(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every line, as Prometheus's reader has it, by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_any_label_and_any_value_are_read_as_they_are(label: str, value: float) -> None:
    [((name, labels), read_value)] = read(
        metrics_text([one("tport_agent_app_up", value, label)])
    ).items()

    assert (name, dict(labels)) == ("tport_agent_app_up", {"app": label})
    assert abs(read_value - value) <= 1e-6


def test_a_histogram_tells_its_buckets_added_up_with_sum_and_count() -> None:
    histogram = Histogram(REQUEST_BOUNDS)
    for seconds in (0.001, 0.01, 0.2, 3, 100):
        histogram.observe(seconds)

    lines = read(metrics_text([Sample("tport_request_seconds", histogram.values, ("grafana",))]))

    def bucket(bound: str) -> float:
        labels = frozenset({("app", "grafana"), ("le", bound)})
        return lines["tport_request_seconds_bucket", labels]

    assert [bucket(bound) for bound in ("0.01", "0.05", "0.25", "1.0", "5.0", "30.0", "+Inf")] == [
        *(2, 2, 3, 3, 4, 4, 5)
    ]
    app = frozenset({("app", "grafana")})
    assert lines["tport_request_seconds_count", app] == 5
    assert abs(lines["tport_request_seconds_sum", app] - 103.211) < 1e-6


def test_each_family_is_told_once_with_its_kind() -> None:
    samples = gathered(
        {
            process: [
                Sample(
                    name,
                    (1.0,) * (len(metric.bounds) + 2 if metric.kind == "histogram" else 1),
                    ("x",) * len(metric.labels),
                )
                for name, metric in METRICS.items()
            ]
            for process in ("main", "worker-1")
        }
    )

    families = list(text_string_to_metric_families(metrics_text(samples)))

    names = [name.removesuffix("_total") for name in METRICS]
    assert [family.name for family in families] == names
    assert [family.type for family in families] == [each.kind for each in METRICS.values()]


def test_processes_are_added_up_or_told_one_by_one_as_the_catalogue_says() -> None:
    found = gathered(
        {
            "main": [one("tport_tasks", 5), one("tport_data_free_bytes", 7)],
            "worker-1": [
                one("tport_tasks", 6),
                one("tport_data_free_bytes", 6),
                one("tport_tunnels", 2),
                one("tport_auth_silence_seconds", 1),
            ],
            "worker-2": [one("tport_tunnels", 3), one("tport_auth_silence_seconds", 4)],
        }
    )

    assert {(each.name, each.labels): each.values[0] for each in found} == {
        ("tport_tasks", ("main",)): 5,
        ("tport_tasks", ("worker-1",)): 6,
        ("tport_data_free_bytes", ()): 6,
        ("tport_tunnels", ()): 5,
        ("tport_auth_silence_seconds", ()): 4,
    }


def test_of_what_has_ended_only_counters_are_kept() -> None:
    totals = Totals()
    ended = [
        one("tport_requests_total", 2, "echo", "2xx"),
        one("tport_tunnels", 3),
        one("process_cpu_seconds_total", 9),  # each process's own
    ]
    totals.add(ended)
    totals.add(ended)

    assert totals.samples() == (one("tport_requests_total", 4, "echo", "2xx"),)


def test_the_document_has_each_figure_with_its_kind_labels_and_what_several_processes_tell() -> (
    None
):
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (\w+) \| ([^|]+) \|$",
        DOCUMENT.read_text(),
        re.MULTILINE,
    )

    assert rows == [
        (
            name,
            metric.kind,
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.across,
            metric.meaning,
        )
        for name, metric in METRICS.items()
    ]
