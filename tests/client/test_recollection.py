from __future__ import annotations

from swarm.client import recollection
from swarm.client.recollection import Recollection
from swarm.wire.messages import Prefix

A, B, C = (Prefix(length, bytes([length]) * 16) for length in (4, 8, 12))


def test_each_peer_counts_with_the_longest_that_it_was_left() -> None:
    seen = Recollection()
    seen.note((A, B, C), {"x", "y"})
    seen.note((A, B), {"x", "z"})
    assert seen.held((A, B, C)) == {"x": 12, "y": 12, "z": 8}
    assert seen.held((A,)) == {"x": 4, "z": 4}
    assert seen.held(()) == {}


def test_what_was_noted_longest_ago_is_forgotten_first(monkeypatch) -> None:
    monkeypatch.setattr(recollection, "_MAX_PREFIXES", 2)
    seen = Recollection()
    seen.note((A, B), {"x"})
    seen.note((A,), {"x"})
    seen.note((C,), {"y"})
    assert seen.held((A, B, C)) == {"x": 4, "y": 12}
