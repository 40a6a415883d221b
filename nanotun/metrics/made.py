"""
Families of metrics, made of rows of numbers.  Names get their prefix here, and the number of
sets of labels its limit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from nanotun.metrics.labels import Labels, bounded
from nanotun.timer import Durations

PREFIX = "nanotun_"

#: Sets of labels, and the number for each.
Rows = Iterable[tuple[Labels, float]]


def counter(name: str, text: str, value: float) -> Metric:
    """One number that only grows.  Its name gets C{_total} at the end."""
    return CounterMetricFamily(PREFIX + name, text, value=value)


def counters(name: str, text: str, labels: Labels, rows: Rows, kept: int = 0) -> Metric:
    """
    Several of them.

    @param labels: their names.
    @param kept: see L{bounded}.
    """
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for values, count in bounded(rows, operator.add, kept).items():
        family.add_metric(values, count)
    return family


def gauge(name: str, text: str, value: float) -> Metric:
    """One number."""
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def gauges(
    name: str,
    text: str,
    labels: Labels,
    rows: Rows,
    join: Callable[[float, float], float] = operator.add,
) -> Metric:
    """
    Several numbers.

    @param join: see L{bounded}.
    """
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for values, number in bounded(rows, join).items():
        family.add_metric(values, number)
    return family


def summaries(
    name: str, text: str, labels: Labels, rows: Iterable[tuple[Labels, tuple[float, float]]]
) -> Metric:
    """
    Counts and sums.

    @param rows: with the count first.
    """
    family = SummaryMetricFamily(PREFIX + name, text, labels=labels)
    for values, (count, total) in bounded(rows, _both).items():
        family.add_metric(values, int(count), total)
    return family


def histograms(
    name: str, text: str, labels: Labels, rows: Iterable[tuple[Labels, Durations]]
) -> Metric:
    """Durations.  All of them have the same bounds."""
    family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
    for values, durations in bounded(rows, operator.add).items():
        ends = [*(str(bound) for bound in durations.bounds), "+Inf"]
        buckets = list(zip(ends, accumulate(durations.counts), strict=True))
        family.add_metric(values, buckets, durations.total)
    return family


def _both(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return one[0] + other[0], one[1] + other[1]
