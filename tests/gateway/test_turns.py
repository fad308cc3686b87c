"""Whose turn it is: told by plain values, with times of our own."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.gateway.turns import Full, State, Turn, Turns


def callers(turns: list[Turn]) -> str:
    return "".join(turn.caller for turn in turns)


def test_a_caller_with_many_requests_does_not_go_before_one_with_few() -> None:
    turns = Turns(1, 100, 100)
    running = turns.join("a", 1, 0)
    assert turns.start() == [running]
    for caller in "aaaabb":
        turns.join(caller, 1, 0)
    order = ""
    for now in range(6):
        turns.leave(running, now)
        (running,) = turns.start()
        order += running.caller
    assert order == "babaaa"


def test_one_callers_requests_begin_in_the_order_in_which_they_came() -> None:
    turns = Turns(1, 100, 100)
    line = [turns.join("a", 1, 0) for _ in range(4)]
    for turn in line:
        assert turns.start() == [turn]
        turns.leave(turn, 0)


def test_who_has_long_answers_running_waits_for_who_has_none() -> None:
    turns = Turns(4, 100, 100)
    held = [turns.join("a", 1, 0) for _ in range(4)]
    turns.start()
    for caller in "aabb":
        turns.join(caller, 1, 0)
    turns.leave(held[0], 1)
    turns.leave(held[1], 1)
    assert callers(turns.start()) == "bb"


def test_a_large_request_is_not_overtaken_for_ever() -> None:
    turns = Turns(4, 100, 100)
    held = [turns.join("a", 1, 0) for _ in range(4)]
    turns.start()
    turns.join("b", 4, 0)
    turns.join("a", 1, 0)
    for turn in held[:3]:
        turns.leave(turn, 1)
        assert turns.start() == []
    turns.leave(held[3], 1)
    assert callers(turns.start()) == "b"


def test_who_goes_away_leaves_the_line() -> None:
    turns = Turns(1, 100, 100)
    turns.join("a", 1, 0)
    turns.start()
    large, small = turns.join("b", 1, 0), turns.join("c", 1, 0)
    turns.leave(large, 1)
    assert turns.num_waiting == 1 and turns.start() == []
    turns.leave(small, 1)
    turns.leave(small, 1)
    assert turns.num_waiting == 0


def test_as_many_wait_as_may() -> None:
    turns = Turns(1, 3, 2)
    turns.join("a", 1, 0)
    turns.start()
    for caller in "aab":
        turns.join(caller, 1, 0)
    with pytest.raises(Full, match="2 of your requests"):
        turns.join("a", 1, 0)
    with pytest.raises(Full, match="3 requests"):
        turns.join("c", 1, 0)


def test_where_nobody_may_wait_a_free_place_can_be_taken() -> None:
    turns = Turns(1, 0, 0)
    turn = turns.join("a", 1, 0)
    assert turns.start() == [turn]
    with pytest.raises(Full):
        turns.join("a", 1, 0)


def test_when_to_come_back_follows_from_how_fast_turns_end() -> None:
    def told(seconds: float, ahead: int) -> float:
        turns = Turns(1, ahead, ahead)
        running = turns.join("a", 1, 0)
        turns.start()
        for number in range(8):
            turns.leave(running, number * seconds)
            running = turns.join("a", 1, 0)
            turns.start()
        for _ in range(ahead):
            turns.join("a", 1, 0)
        with pytest.raises(Full) as full:
            turns.join("a", 1, 7 * seconds)
        return full.value.retry_after

    assert told(2, 5) == pytest.approx(6 * 2 * 7 / 8)
    assert told(0.001, 5) == 1.0
    assert told(1000, 5) == 60.0
    # Who has stopped altogether is not expected to go on as fast as it was.
    turns = Turns(1, 0, 0)
    turns.leave(turns.join("a", 1, 0), 0)
    turns.join("a", 1, 0)
    turns.start()
    with pytest.raises(Full) as full:
        turns.join("a", 1, 100)
    assert full.value.retry_after == 5.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=60))
def test_whatever_happens_places_are_counted(steps: list[tuple[str, int]]) -> None:
    turns = Turns(5, 10, 6)
    known: list[Turn] = []
    for now, (caller, places) in enumerate(steps):
        if places:
            try:
                known.append(turns.join(caller, places, now))
            except Full as full:
                assert 1 <= full.retry_after <= 60
        elif known:
            turns.leave(known.pop(len(caller) % len(known)), now)
        turns.start()
        states = Counter(turn.state for turn in known)
        running = [turn.places for turn in known if turn.state is State.RUNNING]
        assert turns.num_places == sum(running) <= 5
        assert turns.num_waiting == states[State.WAITING] <= 10
        # Nothing waits beside enough free places.
        assert not states[State.WAITING] or running
    for turn in known:
        turns.leave(turn, 100)
    assert not turns._begun and not turns._places and not turns._waiting
