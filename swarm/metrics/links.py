"""Links to other members, and what is passed on between others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from swarm.transport.neighbours import Neighbours
from swarm.transport.relay import Relay
from swarm.transport.uplink import Uplink
from swarm.wire.relaying import Refusal

from .families import counter, counters, gauge


class LinkMetrics(Collector):
    """The links of one member."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        neighbours = self._neighbours
        traffic, tally = neighbours.by_neighbour, neighbours.tally
        yield gauge("links", "Links to other members that are open.", neighbours.num_links)
        yield counters(
            "link_sent_bytes",
            "Bytes that a neighbour was sent.",
            ("peer",),
            {name: each.sent_bytes for name, each in traffic.items()},
        )
        yield counters(
            "link_received_bytes",
            "Bytes that have come from a neighbour.",
            ("peer",),
            {name: each.received_bytes for name, each in traffic.items()},
        )
        yield counters(
            "links_ended",
            "Links that have ended, by why: unreachable is also one that was closed.",
            ("why",),
            tally.ended,
        )
        yield counters(
            "links_failed", "Links that could not be opened, by why.", ("why",), tally.failed
        )


class RelayMetrics(Collector):
    """What a member passes on; `relay` is None where it has none."""

    def __init__(self, relay: Callable[[], Relay | None]) -> None:
        self._relay = relay

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        if (relay := self._relay()) is None:
            return
        yield gauge(
            "relay_reservations", "Members that are reached through here.", len(relay.reserved)
        )
        yield gauge(
            "relay_circuits", "Streams that are passed on between others.", relay.num_circuits
        )
        yield counter("relay_connections", "Streams that were ever passed on.", relay.num_connected)
        yield counter("relay_bytes", "Bytes that were passed on.", relay.num_passed_bytes)
        yield counters(
            "relay_refusals",
            "Times that the relay did not do what it was asked, by why.",
            ("why",),
            {str(why): relay.refusals[why] for why in Refusal},
        )


class UplinkMetrics(Collector):
    """The limit of all that a machine sends, where it has one."""

    def __init__(self, uplink: Uplink | None) -> None:
        self._uplink = uplink

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        if (uplink := self._uplink) is None:
            return
        yield gauge("upload_limit_bytes_per_second", "What may be sent, on the wire.", uplink.rate)
        yield counter(
            "upload_bytes",
            "Bytes that were sent within the limit, with what the wire adds.",
            uplink.sent_bytes,
        )
