"""Who has other weights than the rest under the same fingerprint. Policy only.

A digest shows a damaged download, or another model's weights under this one's name, before anything
is computed with them. It does not show a liar, who may announce the right digests and compute what
it likes: that is what checks of steps are for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from swarm.directory import MAX_DIGESTS, Announcement

DIGEST_LEN = 8

_ENOUGH = 2
"""Peers that must agree with each other against another, and be more than agree with it."""


def joined(digests: Sequence[bytes]) -> bytes:
    """As an announcement has them; nothing where they are too many."""
    together = b"".join(digests)
    return together if len(together) <= MAX_DIGESTS else b""


def announced(entry: Announcement) -> dict[int, bytes]:
    """The digests that a peer announces, by block; none where their number makes no sense."""
    blocks = range(entry.start, entry.end)
    if len(entry.digests) != len(blocks) * DIGEST_LEN:
        return {}
    parts = (entry.digests[i * DIGEST_LEN : (i + 1) * DIGEST_LEN] for i in range(len(blocks)))
    return dict(zip(blocks, parts, strict=True))


def contested(entries: Iterable[Announcement]) -> frozenset[int]:
    """The blocks of one model for which peers announce different digests."""
    return frozenset(block for block, by_digest in _votes(entries).items() if len(by_digest) > 1)


def dissenters(
    entries: Iterable[Announcement], known: Mapping[int, bytes] | None = None
) -> dict[str, tuple[int, ...]]:
    """Peers of one model with other weights than they should have, and the blocks.

    `known` are digests that the caller is sure of. Of other blocks it is the majority that is
    right, where it is clear enough; one against one, nobody is wrong.
    """
    wrong: dict[str, list[int]] = defaultdict(list)
    for block, by_digest in sorted(_votes(entries).items()):
        right = (known or {}).get(block)
        if right is None:
            first, *others = sorted(by_digest, key=lambda digest: -len(by_digest[digest]))
            beaten = max((len(by_digest[digest]) for digest in others), default=0)
            if len(by_digest[first]) < _ENOUGH or len(by_digest[first]) == beaten:
                continue
            right = first
        for digest, peers in by_digest.items():
            if digest != right:
                for peer in peers:
                    wrong[peer].append(block)
    return {peer: tuple(blocks) for peer, blocks in wrong.items()}


def _votes(entries: Iterable[Announcement]) -> dict[int, dict[bytes, list[str]]]:
    votes: dict[int, dict[bytes, list[str]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        for block, digest in announced(entry).items():
            votes[block][digest].append(entry.peer)
    return votes
