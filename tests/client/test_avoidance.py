from __future__ import annotations

from swarm.client.avoidance import FIRST, FORGIVEN_AFTER, LONGEST, Avoidance


def test_a_fault_is_avoided_for_a_while() -> None:
    avoidance = Avoidance()
    assert avoidance.avoided(0) == frozenset()
    avoidance.blame("a", 10)
    avoidance.blame("b", 10.5)
    assert avoidance.avoided(10.9) == {"a", "b"}
    assert avoidance.avoided(10 + FIRST) == {"b"}
    assert avoidance.avoided(12) == frozenset()


def test_one_death_that_many_sessions_see_is_one_fault() -> None:
    avoidance = Avoidance()
    for moment in (0.0, 0.1, 0.5):
        avoidance.blame("a", moment)
    assert avoidance.avoided(FIRST) == frozenset()


def penalty(avoidance: Avoidance, now: float) -> float:
    """How long a fault at `now` is avoided."""
    avoidance.blame("a", now)
    seconds = 0.5
    while avoidance.avoided(now + seconds):
        seconds += 0.5
    return seconds


def test_each_further_fault_is_avoided_twice_as_long_up_to_a_limit() -> None:
    avoidance, now, penalties = Avoidance(), 0.0, []
    for _ in range(8):
        penalties.append(penalty(avoidance, now))
        now += penalties[-1] + 1
    assert penalties == [1, 2, 4, 8, LONGEST, LONGEST, LONGEST, LONGEST]


def test_it_is_forgiven() -> None:
    avoidance = Avoidance()
    assert penalty(avoidance, 0) == FIRST
    assert penalty(avoidance, 10) == 2 * FIRST
    assert penalty(avoidance, 12 + FORGIVEN_AFTER) == FIRST
