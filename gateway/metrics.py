"""What Prometheus is told (https://prometheus.io/docs/practices/naming/), and where it asks.

Every label has few values, whatever callers and members make up: endpoints are those that exist,
models those that are served, and of members only so many are told apart.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from swarm.client import ClientMetrics
from swarm.metrics.labels import Bounded
from swarm.metrics.registry import CONTENT_TYPE, new_registry, text

from .answer import Source
from .trace import Trace

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """One gateway's metrics."""

    def __init__(self) -> None:
        self._registry = new_registry()
        self._requests = _Requests(self._registry)
        self._swarm = _Swarm(self._registry)

    def note(self, trace: Trace, status: int) -> None:
        """A request has ended."""
        self._requests.note(trace, status)
        if trace.answer is not None:
            self._swarm.note(trace)

    def watch_load(self, load: Callable[[], tuple[int, int]]) -> None:
        """`load` says how many answers are being made now, and how many requests wait."""
        self._registry.register(_Load(load))

    def watch_client(self, client: ClientMetrics) -> None:
        """What the gateway itself asks of the swarm, as any client does."""
        self._registry.register(client)

    def watch_traffic(self, traffic: Callable[[], tuple[int, int]]) -> None:
        """`traffic` says how many bytes peers were sent, and how many have come from them."""
        self._registry.register(_Traffic(traffic))

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return text(self._registry)

    async def answer(self, request: web.Request) -> web.Response:
        """The same over HTTP."""
        return web.Response(body=self.text(), headers={"Content-Type": CONTENT_TYPE})


class _Requests:
    """Counts requests, as callers see them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"homeswarm_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            name = f"homeswarm_{name}"
            return Histogram(name, text, ["model"], registry=registry, buckets=buckets)

        self._models = Bounded()
        self._ended = counter(
            "requests", "Requests that have ended.", "endpoint", "status", "model"
        )
        self._refused = counter("refusals", "Requests that were refused, by reason.", "reason")
        self._fallback = counter("fallback_answers", "Answers that a fallback made.", "model")
        self._queue = histogram(
            "queue_seconds", "How long requests have waited for their turn.", _SECONDS
        )
        self._first = histogram(
            "time_to_first_token_seconds", "From a request to its first token.", _SECONDS
        )
        self._token = histogram(
            "time_per_token_seconds",
            "From one token of an answer to the next, as a mean of each answer.",
            _TOKEN_SECONDS,
        )
        self._prompt = counter("prompt_tokens", "Tokens of prompts.", "model")
        self._cached = counter(
            "cached_tokens", "Tokens of prompts that peers had kept from before.", "model"
        )
        self._completion = counter("completion_tokens", "Tokens of answers.", "model")

    def note(self, trace: Trace, status: int) -> None:
        """A request has ended."""
        model = self._models.label(trace.asked) if trace.asked else ""
        self._ended.labels(trace.endpoint, str(status), model).inc()
        if trace.refusal is not None:
            self._refused.labels(trace.refusal.reason.replace(" ", "_")).inc()
        if trace.answer is None:
            return
        if trace.source is Source.FALLBACK:
            self._fallback.labels(model).inc()
        else:
            self._queue.labels(model).observe(trace.queued)
        self._first.labels(model).observe(trace.first_token)
        if (seconds := trace.seconds_per_token) is not None:
            self._token.labels(model).observe(seconds)
        usage = trace.usage
        self._prompt.labels(model).inc(usage.num_prompt)
        self._cached.labels(model).inc(usage.num_cached)
        self._completion.labels(model).inc(usage.num_completion)


class _Swarm:
    """Counts what answers have taken in the swarm."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"homeswarm_{name}", text, labels, registry=registry)

        self._peers = Bounded()
        self._sources = Bounded()
        self._hop_seconds = counter(
            "hop_seconds",
            "Seconds of decode steps at a peer (compute, queue) and on the way to it (wire).",
            "peer",
            "part",
        )
        self._hop_steps = counter("hop_steps", "Decode steps that went through a peer.", "peer")
        self._client_seconds = counter(
            "client_seconds",
            "Seconds in the gateway (head, sampling), on the way back to it (wire), and during"
            " which routes were mended (disturbed).",
            "part",
        )
        self._steps = counter("decode_steps", "Decode steps.")
        self._recoveries = counter("recoveries", "Times that a route was mended.")
        self._handovers = counter("handovers", "Times that a leaving peer handed an answer over.")
        self._models = Bounded()
        self._joules = counter(
            "answer_joules",
            "Energy that peers say they have spent on new tokens, and how they know.",
            "model",
            "source",
        )
        self._metered = counter(
            "metered_tokens", "The tokens of which that is known.", "model", "source"
        )
        self._drafted = counter("drafted_tokens", "Guesses that travelled along with a token.")
        self._accepted = counter("accepted_tokens", "Guesses that came true.")

    def note(self, trace: Trace) -> None:
        """An answer has ended."""
        self._steps.inc(trace.total("num_steps"))
        self._recoveries.inc(trace.total("num_recoveries"))
        self._handovers.inc(trace.total("num_handovers"))
        self._drafted.inc(trace.total("num_drafted"))
        self._accepted.inc(trace.total("num_accepted"))
        if (energy := trace.energy) is not None:
            labels = self._models.label(trace.asked), self._sources.label(energy[1])
            self._joules.labels(*labels).inc(energy[0])
            self._metered.labels(*labels).inc(trace.total_tokens)
        timing = trace.timing()
        for hop in timing.hops.values():
            peer = self._peers.label(hop.name)
            self._hop_steps.labels(peer).inc(hop.num_steps)
            for part in ("compute", "queue", "wire"):
                self._hop_seconds.labels(peer, part).inc(getattr(hop, part))
        for part, seconds in {
            "head": timing.head,
            "sampling": timing.sampling,
            "wire": timing.back,
            "disturbed": timing.disturbed,
        }.items():
            self._client_seconds.labels(part).inc(seconds)


class _Load(Collector):
    """What runs and what waits, at the moment when it is asked for."""

    def __init__(self, load: Callable[[], tuple[int, int]]) -> None:
        self._load = load

    def collect(self) -> list[Metric]:
        """See `Collector`."""
        running, waiting = self._load()
        return [
            GaugeMetricFamily("homeswarm_answers_running", "Answers that are being made.", running),
            GaugeMetricFamily(
                "homeswarm_requests_waiting", "Requests that wait for their turn.", waiting
            ),
        ]


class _Traffic(Collector):
    """Bytes over the links to peers, at the moment when they are asked for."""

    def __init__(self, traffic: Callable[[], tuple[int, int]]) -> None:
        self._traffic = traffic

    def collect(self) -> list[Metric]:
        """See `Collector`."""
        sent, received = self._traffic()
        return [
            CounterMetricFamily("homeswarm_sent_bytes", "Bytes that peers were sent.", sent),
            CounterMetricFamily(
                "homeswarm_received_bytes", "Bytes that have come from peers.", received
            ),
        ]
