"""What a reply has cost in joules, by what the peers on its way say of themselves. Policy alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from swarm.directory import Announcement
from swarm.energy.meter import Source

from .reply import Reply
from .route import Hop

_KNOWN = frozenset(map(str, Source))


@dataclass(frozen=True)
class Energy:
    """Joules for each new token of a reply, at all peers together, and how that is known.

    `source` is "estimate" if any part of it is one, or is told in a word that is none of ours; else
    what the peers measure by, such as "rapl" or, where they do it in several ways, "nvml+rapl".
    """

    joules_per_token: float
    source: str


def energy(reply: Reply, announcements: Iterable[Announcement]) -> Energy | None:
    """Of the route that the reply has now; None where not every peer on it tells.

    A guess that does not come true costs like a token. The client's own machine is not counted.
    """
    entries = {entry.peer: entry for entry in announcements}
    shares = [_share(hop, entries.get(hop.peer)) for hop in reply.route]
    if not shares or not all(shares):
        return None
    sources = {_source(entries[hop.peer].energy) for hop in reply.route}
    source = Source.ESTIMATE if Source.ESTIMATE in sources else "+".join(sorted(sources))
    following = len(reply.ids) - 1
    positions = (reply.num_steps + reply.num_drafted) / following if following > 0 else 1.0
    return Energy(sum(shares) * positions, str(source))


def _source(word: str) -> Source:
    # Peers write there what they like, and it is shown on terminals and kept by Prometheus.
    return Source(word) if word in _KNOWN else Source.ESTIMATE


def _share(hop: Hop, entry: Announcement | None) -> float:
    """Joules for each position in a hop, which may be a part of its peer's span; 0: not known."""
    if entry is None or not entry.energy or entry.end <= entry.start:
        return 0.0
    return entry.joules * min(1.0, (hop.end - hop.start) / (entry.end - entry.start))
