"""Which peers were left which prefixes: where a session that begins alike starts sooner."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from swarm.wire.messages import Prefix

_MAX_PREFIXES = 16_384
"""That many are remembered; in units of 32 positions, half a million of them."""


class Recollection:
    """Peers by the prefixes that they were asked to keep; whether they do, only they know."""

    def __init__(self) -> None:
        self._peers: OrderedDict[bytes, frozenset[str]] = OrderedDict()

    def note(self, prefixes: Sequence[Prefix], peers: Iterable[str]) -> None:
        """These peers were asked just now."""
        route = frozenset(peers)
        for prefix in prefixes:
            self._peers[prefix.digest] = route
            self._peers.move_to_end(prefix.digest)
        while len(self._peers) > _MAX_PREFIXES:
            self._peers.popitem(last=False)

    def held(self, prefixes: Sequence[Prefix]) -> dict[str, int]:
        """Positions of the longest of `prefixes`, which rise in length, that each peer may have."""
        return {
            peer: prefix.length
            for prefix in prefixes
            for peer in self._peers.get(prefix.digest, ())
        }
