"""What a peer tells Prometheus, read at the moment when it is asked for; see docs/observing.md."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from swarm.directory import State
from swarm.metrics.families import counter, counters, gauge, gauges, histogram
from swarm.metrics.links import LinkMetrics, RelayMetrics, UplinkMetrics
from swarm.metrics.registry import new_registry
from swarm.transport import Transport
from swarm.transport.relayed import RelayedTransport
from swarm.transport.uplink import Uplink
from swarm.wire.messages import Code

from .service import Peer


def registry(peer: Peer) -> CollectorRegistry:
    """All that a peer tells."""
    transport = peer.member.transport
    relay = transport.relay if isinstance(transport, RelayedTransport) else None
    return new_registry(
        PeerMetrics(peer),
        LinkMetrics(peer.neighbours),
        RelayMetrics(lambda: relay),
        UplinkMetrics(_uplink(transport)),
    )


def _uplink(transport: Transport) -> Uplink | None:
    # Over the twins there is none, and libp2p need not be loaded.
    from swarm.transport.libp2p import Libp2pTransport

    carrier = transport.carrier if isinstance(transport, RelayedTransport) else transport
    return carrier.uplink if isinstance(carrier, Libp2pTransport) else None


class PeerMetrics(Collector):
    """What it serves, has computed, and has spent on it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from self._life()
        yield from self._memory()
        yield from self._work()
        yield from self._sessions()
        yield from self._checks()
        yield from self._energy()

    def _life(self) -> Iterator[Metric]:
        peer, tally = self._peer, self._peer.tally
        entry = peer.announcement()
        yield gauges(
            "peer_state",
            "Whether the peer is in a state: 1 for the one that it is in.",
            ("state",),
            {str(state): float(state is entry.state) for state in State},
        )
        yield gauge("peer_first_block", "First block of its span.", entry.start)
        yield gauge("peer_blocks", "Blocks of its span.", entry.end - entry.start)
        yield gauge("peer_model_blocks", "Blocks of the whole model.", entry.num_blocks)
        yield counter("peer_loads", "Times that blocks were loaded.", tally.num_loads)
        yield counter("peer_load_seconds", "Time that it took.", tally.load_seconds)
        yield counter("peer_moves", "Times that it has gone to other blocks.", tally.num_moves)
        yield counter("peer_pauses", "Times that it has paused.", tally.num_pauses)
        yield gauge("peer_decode_seconds", "A decode step now, as announced.", entry.decode_seconds)
        yield gauge(
            "peer_prefill_seconds",
            "Each position of a long prompt now, as announced.",
            entry.prefill_seconds,
        )
        yield gauge(
            "peer_upload_bytes_per_second", "How fast it has sent lately.", entry.upload_rate
        )
        yield gauge("peer_used_bytes", "Memory of the device that it takes.", entry.used_bytes)
        yield gauge("peer_memory_bytes", "Memory of the device.", entry.memory_bytes)

    def _memory(self) -> Iterator[Metric]:
        hosting = self._peer.hosting
        total = leased = kept = rows = 0
        if hosting is not None:
            total = hosting.leases.num_pages
            leased = total - hosting.leases.free
            kept, rows = hosting.kept.num_pages, len(hosting.kept)
        yield gauge("peer_pages", "Pages of KV memory.", total)
        yield gauge("peer_leased_pages", "Pages that are promised to sessions.", leased)
        yield gauge("peer_kept_pages", "Pages with what earlier sessions have left.", kept)
        yield gauge("peer_kept_prefixes", "Beginnings of texts that are kept.", rows)

    def _work(self) -> Iterator[Metric]:
        tally = self._peer.tally
        phases = [(str(phase), each) for phase, each in tally.phases.items()]
        yield counters(
            "peer_positions",
            "Positions computed.",
            ("phase",),
            [(phase, each.num_positions) for phase, each in phases],
        )
        yield counters(
            "peer_steps",
            "Steps computed, or parts of long ones.",
            ("phase",),
            [(phase, each.num_steps) for phase, each in phases],
        )
        yield histogram(
            "peer_queue_seconds",
            "How long steps have waited before they were computed.",
            ("phase",),
            [(phase, each.queue) for phase, each in phases],
        )
        yield histogram("peer_compute_seconds", "How long batches took.", (), [((), tally.compute)])
        yield histogram("peer_batch_steps", "Steps in a batch.", (), [((), tally.batch_steps)])
        hosting = self._peer.hosting
        queued = hosting.num_queued_steps if hosting is not None else 0
        yield gauge("peer_steps_waiting", "Steps that wait to be computed.", queued)

    def _sessions(self) -> Iterator[Metric]:
        peer, tally = self._peer, self._peer.tally
        waiting = peer.hosting.handler.num_openings if peer.hosting is not None else 0
        yield gauge("peer_sessions", "Sessions that are open.", peer.num_sessions)
        yield gauge("peer_sessions_waiting", "Sessions that wait for memory.", waiting)
        yield counter("peer_sessions_opened", "Sessions that were let in.", tally.num_opened)
        yield counters(
            "peer_refusals",
            "Sessions that were not let in, by why.",
            ("code",),
            {str(code): tally.refusals[code] for code in Code},
        )
        yield counters(
            "peer_failures",
            "Times that a session could not go on, by why.",
            ("code",),
            {str(code): tally.failures[code] for code in Code},
        )
        yield counter(
            "peer_recalled_positions",
            "Positions that sessions began with, as they were kept from earlier ones.",
            tally.num_recalled,
        )
        yield counter(
            "peer_recoveries", "Times that a session here got another route.", tally.num_held
        )
        yield counters(
            "peer_replayed_positions",
            "Positions of histories that were sent again: after a death, or before a departure.",
            ("why",),
            {"recovery": tally.num_replayed, "handover": tally.num_copied},
        )
        yield counters(
            "peer_handovers",
            "Sessions that ran here when the peer gave up its blocks, by whether they had gone on"
            " elsewhere in time.",
            ("result",),
            {"done": tally.num_handed_over, "late": tally.num_left_behind},
        )

    def _checks(self) -> Iterator[Metric]:
        patrol = self._peer.patrol
        yield counters(
            "peer_audits",
            "Comparisons of others' work with its own, by what came out.",
            ("result",),
            {
                "agreed": patrol.num_compared - patrol.num_differing,
                "caught": patrol.num_caught,
                "undecided": patrol.num_differing - patrol.num_caught,
                "failed": patrol.num_failed,
            },
        )

    def _energy(self) -> Iterator[Metric]:
        if (metering := self._peer.metering) is None:
            return
        account, source = metering.account, str(metering.source)
        yield counters(
            "peer_joules",
            "Energy that the peer has spent, by how that is known.",
            ("source",),
            {str(each): joules for each, joules in account.joules.items()},
        )
        yield counters(
            "peer_machine_joules",
            "Energy that was measured of the processor or card, whoever has spent it.",
            ("source",),
            {str(each): joules for each, joules in account.machine_joules.items() if joules},
        )
        yield gauges("peer_watts", "What the peer draws now.", ("source",), {source: account.watts})
        yield gauges(
            "peer_joules_per_position",
            "Energy for each position lately.",
            ("source",),
            {source: account.per_position},
        )
