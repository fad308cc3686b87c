"""Metrics from numbers that somebody keeps anyway, read at the moment when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from .buckets import Buckets

PREFIX = "homeswarm_"

Labels = str | tuple[str, ...]
"""The value of a label, or of several."""


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """One number that may rise and fall."""
    return GaugeMetricFamily(PREFIX + name, text, value)


def gauges(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[str, float] | Values
) -> GaugeMetricFamily:
    """Such numbers, by the values of `labels`."""
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in _pairs(values):
        family.add_metric(_several(key), value)
    return family


def counter(name: str, text: str, value: float) -> CounterMetricFamily:
    """One number that only rises."""
    return CounterMetricFamily(PREFIX + name, text, value)


def counters(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[str, float] | Values
) -> CounterMetricFamily:
    """Such numbers, by the values of `labels`."""
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in _pairs(values):
        family.add_metric(_several(key), value)
    return family


def histogram(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[Labels, Buckets]]
) -> HistogramMetricFamily:
    """How often values were so large, by the values of `labels`."""
    family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
    for key, buckets in values:
        family.add_metric(_several(key), buckets.cumulative, buckets.total)
    return family


Values = Iterable[tuple[Labels, float]]


def _pairs(values: Mapping[str, float] | Values) -> Values:
    return values.items() if isinstance(values, Mapping) else values


def _several(key: Labels) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key
