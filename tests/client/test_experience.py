"""X11: a peer that says it is faster than it is."""

from __future__ import annotations

import pytest

from swarm.client.experience import Experience
from swarm.client.route import Hop
from swarm.directory import Announcement, State
from swarm.wire.messages import HopTime

ROUTE = (Hop("a", 0, 2), Hop("b", 2, 4))
TRIPS = {name: 0.01 for name in "abcd"}


def serves(peer: str, start: int, end: int, decode: float, queue: float = 0.0) -> Announcement:
    return Announcement(
        peer,
        peer,
        "m",
        "m",
        4,
        start,
        end,
        State.SERVING,
        decode_seconds=decode,
        queue_seconds=queue,
    )


HONEST = {"a": serves("a", 0, 2, 0.02), "b": serves("b", 2, 4, 0.02)}
LIAR = {**HONEST, "b": serves("b", 2, 4, 1e-6)}


def times(a: float, b: float, queue: float = 0.0) -> tuple[HopTime, ...]:
    micro = [int(seconds * 1e6) for seconds in (a, b, queue)]
    return HopTime(0, 2, micro[2], micro[0], 1), HopTime(2, 4, micro[2], micro[1], 1)


def after(announced, *steps, route=ROUTE, now: float = 0.0) -> Experience:
    experience = Experience()
    for seconds, spent in steps:
        experience.note(route, spent, seconds, announced, TRIPS, now)
    return experience


def test_who_keeps_its_word_is_believed() -> None:
    experience = after(HONEST, *[(0.06, times(0.02, 0.025))] * 10)
    assert experience.slower("a", 0.0) == experience.slower("b", 0.0) == 0.0
    assert experience.slower("stranger", 0.0) == 0.0


def test_who_is_slower_than_it_says_is_known_after_a_few_steps() -> None:
    steps = [(0.06, times(0.02, 0.02))] * 4
    assert after(LIAR, *steps[:3]).slower("b", 0.0) == 0.0
    experience = after(LIAR, *steps)
    assert experience.slower("b", 0.0) == pytest.approx(0.0095, rel=0.01)
    assert experience.slower("a", 0.0) == 0.0


def test_an_announced_queue_is_no_lie() -> None:
    honest = {**HONEST, "b": serves("b", 2, 4, 0.02, queue=0.1)}
    assert after(honest, *[(0.15, times(0.02, 0.11))] * 8).slower("b", 0.0) == 0.0


def test_one_slow_step_is_no_lie() -> None:
    steps = [(0.06, times(0.02, 0.02))] * 7
    assert after(HONEST, *steps, (0.5, times(0.02, 0.4))).slower("b", 0.0) == 0.0


def test_time_that_nobody_admits_falls_on_those_whom_slow_routes_have_in_common() -> None:
    other = (Hop("c", 0, 2), Hop("b", 2, 4))
    announced = {**LIAR, "c": serves("c", 0, 2, 0.02)}
    experience = Experience()
    for number in range(8):
        for route in (ROUTE, other):
            experience.note(route, times(0.02, 0.0), 0.25, announced, TRIPS, float(number))
    hidden = {peer: experience.slower(peer, 7.0) for peer in "abc"}
    assert hidden["b"] > 0.04 and hidden["b"] > hidden["a"]
    # With an honest peer in its place the others are cleared.
    for number in range(8):
        route = (Hop("a", 0, 2), Hop("d", 2, 4))
        honest = {**announced, "d": serves("d", 2, 4, 0.02)}
        experience.note(route, times(0.02, 0.02), 0.06, honest, TRIPS, 8.0 + number)
    assert experience.slower("a", 16.0) == 0.0 and experience.slower("b", 16.0) > 0.03


def test_distance_is_no_lie() -> None:
    """What passes between two peers may take as long as by way of the client."""
    experience = Experience()
    trips = {"a": 0.1, "b": 0.1}
    for _ in range(8):
        experience.note(ROUTE, times(0.02, 0.02), 0.23, HONEST, trips, 0.0)
    assert experience.slower("a", 0.0) == experience.slower("b", 0.0) == 0.0


def test_what_was_seen_is_forgotten_slowly() -> None:
    experience = after(LIAR, *[(0.06, times(0.02, 0.02))] * 4)
    fresh = experience.slower("b", 0.0)
    assert experience.slower("b", 300.0) == pytest.approx(fresh / 2)


@pytest.mark.parametrize(
    ("route", "announced"), [(ROUTE[:1], HONEST), ((Hop("x", 0, 2), Hop("y", 2, 4)), HONEST)]
)
def test_times_of_others_say_nothing(route, announced) -> None:
    experience = after(announced, *[(9.0, times(1.0, 1.0))] * 8, route=route)
    assert experience.slower("a", 0.0) == experience.slower("x", 0.0) == 0.0
