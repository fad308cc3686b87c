"""What a process takes, under the names that every program's metrics have for it."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class ProcessMetrics(Collector):
    """This process, on any system; what that does not tell is left out."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        process = self._process
        spent = process.cpu_times()
        yield CounterMetricFamily(
            "process_cpu_seconds", "Time on a core, of this process.", spent.user + spent.system
        )
        memory = process.memory_info().rss
        yield GaugeMetricFamily("process_resident_memory_bytes", "Memory in use.", memory)
        yield GaugeMetricFamily("process_threads", "Threads.", process.num_threads())
        yield GaugeMetricFamily(
            "process_start_time_seconds", "When it began, since 1970.", process.create_time()
        )
        if hasattr(process, "num_fds"):
            yield GaugeMetricFamily(
                "process_open_fds", "Open files and sockets.", process.num_fds()
            )
