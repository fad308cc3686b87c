"""Whom a client has something against, and for how long."""

from __future__ import annotations

from swarm.client.auditing.config import AuditConfig
from swarm.client.auditing.repute import ENOUGH_REFUSALS, Repute


def repute() -> Repute:
    return Repute(AuditConfig(rate=0.01, watch_rate=0.5, watch_seconds=60, avoid_seconds=100))


def among(*peers: str) -> dict[str, str]:
    """Peers of as many members."""
    return {peer: peer for peer in peers}


def test_the_caught_are_avoided_for_long_but_not_for_ever() -> None:
    known = repute()
    known.catch("liar", 5.0)
    assert known.caught(104.0) == known.avoided(104.0) == {"liar"}
    assert not known.avoided(106.0)
    assert known.num_caught == 1


def test_of_many_quarrels_the_one_in_all_of_them_is_doubted() -> None:
    known = repute()
    for number in range(3):
        assert not known.avoided(1.0)
        known.quarrel(among("liar", f"honest-{number}"), 1.0)
    assert known.avoided(2.0) == {"liar"}
    assert not known.caught(2.0)


def test_the_same_quarrel_again_says_nothing_new() -> None:
    known = repute()
    for _ in range(9):
        known.quarrel(among("one", "other"), 1.0)
    assert not known.avoided(2.0)


def test_many_peers_of_one_member_are_one_in_quarrels() -> None:
    known = repute()
    for number in range(9):
        known.quarrel({"honest": "ann", f"liar-{number}": "bob"}, 1.0)
    assert not known.avoided(2.0)


def test_who_is_in_all_quarrels_hides_behind_nobody() -> None:
    """A hop can spoil what any before it says: that makes neither of those two a liar."""
    known = repute()
    for number in range(3):
        assert not known.avoided(1.0)
        known.quarrel(among("first", f"second-{number}", "liar"), 1.0)
    assert not known.avoided(2.0), "it may be the first as well"
    known.quarrel(among("other", "second-0", "liar"), 1.0)
    assert known.avoided(2.0) == {"liar"}


def test_who_never_shows_its_work_is_doubted_in_the_end() -> None:
    known = repute()
    for _ in range(ENOUGH_REFUSALS - 1):
        known.refuse("peer", 1.0)
    known.agree("peer")
    known.refuse("peer", 1.0)
    assert not known.avoided(2.0)
    for _ in range(ENOUGH_REFUSALS):
        known.refuse("peer", 1.0)
    assert known.avoided(2.0) == {"peer"}


def test_the_watched_are_checked_more_for_a_while() -> None:
    known = repute()
    known.watch("peer", 10.0)
    assert known.rate("peer", 60.0) == 0.5
    assert known.rate("peer", 71.0) == known.rate("other", 60.0) == 0.01
