"""Figures as Prometheus reads them: the text format, version 0.0.4.

Source: prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from tport.engine.metrics.catalogue import METRICS, PROCESS, Metric
from tport.engine.metrics.sample import Sample

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def metrics_text(samples: Iterable[Sample]) -> str:
    """Return what `gathered` made, family by family in the catalogue's order."""
    families: dict[str, list[Sample]] = {name: [] for name in METRICS}
    for sample in samples:
        families[sample.name].append(sample)
    lines: list[str] = []
    for name, found in families.items():
        if found:
            metric = METRICS[name]
            lines += (f"# HELP {name} {metric.meaning}", f"# TYPE {name} {metric.kind}")
            for sample in sorted(found, key=lambda each: each.labels):
                lines += _lines(metric, sample)
    return "\n".join((*lines, ""))


def _lines(metric: Metric, sample: Sample) -> Iterator[str]:
    names = (*metric.labels, PROCESS) if metric.across == "each" else metric.labels
    labels = [
        f'{name}="{value.translate(_ESCAPED)}"'
        for name, value in zip(names, sample.labels, strict=True)
    ]
    if metric.kind != "histogram":
        [value] = sample.values
        yield f"{sample.name}{_braced(labels)} {_number(value)}"
        return
    *counts, total = sample.values
    bounds = (*map(str, metric.bounds), "+Inf")
    for bound, count in zip(bounds, accumulate(counts), strict=True):
        braced = _braced([*labels, f'le="{bound}"'])
        yield f"{sample.name}_bucket{braced} {_number(count)}"
    yield f"{sample.name}_sum{_braced(labels)} {_number(total)}"
    yield f"{sample.name}_count{_braced(labels)} {_number(sum(counts))}"


def _braced(labels: list[str]) -> str:
    return f"{{{','.join(labels)}}}" if labels else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 6))
