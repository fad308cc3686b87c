"""What a client's numbers are in Prometheus, for a registry of one's own; see docs/observing.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from swarm.metrics.families import counter, counters, gauge
from swarm.metrics.links import LinkMetrics
from swarm.transport.neighbours import Neighbours

from .tally import ClientTally

if TYPE_CHECKING:
    from .auditing.auditor import Tally


class ClientMetrics(Collector):
    """One client's: `registry.register(swarm.metrics)`. Made by `Swarm.metrics`."""

    def __init__(self, neighbours: Neighbours, tally: ClientTally, audits: Tally) -> None:
        self._links = LinkMetrics(neighbours)
        self._tally = tally
        self._audits = audits

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from self._links.collect()
        yield from self._sessions()
        yield from self._replies()
        yield from self._checks()

    def _sessions(self) -> Iterator[Metric]:
        tally = self._tally
        yield gauge("client_sessions", "Sessions that are open.", tally.num_open)
        yield counter("client_sessions_opened", "Sessions that were opened.", tally.num_opened)
        yield counter(
            "client_recoveries", "Times that a session's route was mended.", tally.num_recoveries
        )
        yield counter(
            "client_handovers",
            "Times that a leaving peer handed a session over.",
            tally.num_handovers,
        )
        yield counters(
            "client_faults",
            "Times that a hop could not go on, by what was the matter with it.",
            ("kind",),
            tally.faults,
        )

    def _replies(self) -> Iterator[Metric]:
        tally = self._tally
        yield counter("client_replies", "Replies that have ended.", tally.num_replies)
        yield counters(
            "client_tokens",
            "Tokens of replies: asked, known to the peers already, and new.",
            ("kind",),
            {kind: tally.tokens[kind] for kind in ("prompt", "cached", "completion")},
        )
        yield counter("client_steps", "Decode steps of replies.", tally.num_steps)
        yield counter("client_drafted_tokens", "Guesses that travelled along.", tally.num_drafted)
        yield counter("client_accepted_tokens", "Guesses that came true.", tally.num_accepted)

    def _checks(self) -> Iterator[Metric]:
        audits = self._audits
        yield counters(
            "client_audits",
            "Checks of peers' work, by what came out.",
            ("result",),
            {
                "agreed": audits.agreed,
                "caught": audits.caught,
                "undecided": audits.undecided,
                "unwitnessed": audits.unwitnessed,
                "failed": audits.failed,
            },
        )
        yield counter(
            "client_contradictions",
            "Times that a hop's word did not fit another's.",
            audits.contradictions,
        )
        yield counter(
            "client_computed_blocks",
            "Positions times blocks that peers have computed for this client.",
            audits.computed,
        )
        yield counter(
            "client_checked_blocks",
            "Positions times blocks of that which were checked.",
            audits.checked,
        )
