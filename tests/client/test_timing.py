from __future__ import annotations

import pytest

from swarm.client.route import Hop
from swarm.client.timing import Passage, Timing, apportioned
from swarm.wire.messages import HopTime

ROUTE = (Hop("a", 0, 2), Hop("b", 2, 4))


def passage(*trips: int, first: float = 0.0, route: tuple[Hop, ...] = ROUTE) -> Passage:
    """Each hop waits for 1 ms and computes for 2 ms."""
    times = tuple(
        HopTime(hop.start, hop.end, 1000, 2000, 1, trip=trip)
        for hop, trip in zip(route, trips, strict=True)
    )
    return Passage(route, tuple(hop.peer.upper() for hop in route), times, first)


def test_what_no_hop_admits_was_spent_on_the_way() -> None:
    timing = Timing()
    for _ in range(2):
        timing.add(passage(4000, 1000, first=0.002), 0.016)
    a, b = timing.hops.values()
    assert (a.name, a.start, a.end, a.num_steps) == ("A", 0, 2, 2)
    assert (a.queue, a.compute) == pytest.approx((0.002, 0.004))
    # 10 ms on the way, of which the links explain 7; the rest is shared by three trips.
    assert (a.wire, b.wire, timing.back) == pytest.approx((0.006, 0.010, 0.004))


def test_all_parts_are_the_steps_whole_time() -> None:
    timing = Timing()
    timing.add(passage(0, 30), 0.0123)
    parts = [hop.queue + hop.compute + hop.wire for hop in timing.hops.values()]
    assert sum(parts) + timing.back == pytest.approx(0.0123)


@pytest.mark.parametrize("claim", [10**6, 2**62 - 1])
def test_a_hop_that_claims_longer_trips_than_there_was_time_for_gets_no_more(claim: int) -> None:
    timing = Timing()
    timing.add(passage(claim, 0), 0.010)
    assert timing.hops["b", 2, 4].wire + timing.back <= 0.004 + 1e-9


def test_hops_that_admit_more_than_the_step_took_leave_nothing_to_the_way() -> None:
    timing = Timing()
    timing.add(passage(500, 500), 0.001)
    assert [hop.wire for hop in timing.hops.values()] == [0, 0] and timing.back == 0


def test_times_of_another_route_count_nowhere() -> None:
    timing, other = Timing(), passage(1, 1)
    timing.add(Passage((Hop("c", 0, 4),), ("C",), other.times, 0.0), 0.01)
    timing.add(Passage((), (), (), 0.0), 0.01)
    assert timing == Timing()


def test_all_hops_that_a_reply_went_through_are_told() -> None:
    timing = Timing()
    timing.add(passage(0, 0), 0.01)
    timing.disturb(0.5)
    timing.add(passage(0, 0, route=(ROUTE[0], Hop("c", 2, 4))), 0.01)
    assert [(hop.peer, hop.num_steps) for hop in timing.hops.values()] == [
        ("a", 2),
        ("b", 1),
        ("c", 1),
    ]
    assert (timing.num_steps, timing.num_disturbed, timing.disturbed) == (2, 1, 0.5)


def test_several_replies_are_one_whole() -> None:
    timing, whole = Timing(head=0.5, sampling=0.25), Timing()
    timing.add(passage(4000, 1000, first=0.002), 0.016)
    timing.disturb(1.0)
    for _ in range(3):
        whole.include(timing)
    assert (whole.num_steps, whole.num_disturbed, whole.disturbed) == (3, 3, 3.0)
    assert (whole.head, whole.sampling) == (1.5, 0.75)
    assert whole.back == pytest.approx(3 * timing.back)
    for key, hop in timing.hops.items():
        assert whole.hops[key].num_steps == 3
        assert whole.hops[key].wire == pytest.approx(3 * hop.wire)
    assert timing.hops["a", 0, 2].num_steps == 1, "the parts stay as they were"


@pytest.mark.parametrize("trips", [[0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [5.0, 0.0, 5.0]])
def test_shares_are_the_whole(trips: list[float]) -> None:
    assert sum(apportioned(4.0, trips)) == pytest.approx(4.0)
    assert min(apportioned(4.0, trips)) >= 0


def test_no_time_is_shared_without_any_known_trip() -> None:
    assert apportioned(0.0, [0.0, 0.0]) == [0.0, 0.0]
