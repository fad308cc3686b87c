"""A registry of one program's metrics, which begins with what all of them tell."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

from swarm import __version__

from .process import ProcessMetrics

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def new_registry(*collectors: Collector) -> CollectorRegistry:
    """One with these metrics, the version, and what the process takes."""
    # When each counter began is not asked for; it would double what is told.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    build = Gauge(
        "homeswarm_build_info",
        "The version of Homeswarm that runs; always 1.",
        ["version"],
        registry=registry,
    )
    build.labels(__version__).set(1)
    registry.register(ProcessMetrics())
    for collector in collectors:
        registry.register(collector)
    return registry


def text(registry: CollectorRegistry) -> bytes:
    """All of a registry's metrics, in Prometheus' text format."""
    return generate_latest(registry)
