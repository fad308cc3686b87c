from __future__ import annotations

import pytest

from swarm.transport.line import Line

BIG = 200_000


def measured(*trips: float) -> Line:
    line = Line()
    now = 0.0
    for trip in trips:
        number = line.ask(now)
        now += trip
        line.answer(number, now)
    return line


def test_round_trips_are_smoothed() -> None:
    line = measured(0.1)
    assert (line.round_trip, line.deviation) == (0.1, 0.05)
    line = measured(0.1, 0.18)
    assert line.round_trip == pytest.approx(0.11)
    assert line.deviation == pytest.approx(0.0575)


@pytest.mark.parametrize("number", [0, 7, -1, 1 << 40])
def test_an_answer_to_no_question_measures_nothing(number: int) -> None:
    line = Line()
    line.ask(0.0)
    line.answer(number, 5.0)
    assert line.round_trip is None


def test_an_answer_counts_once() -> None:
    line = measured(0.1)
    line.answer(1, 50.0)
    assert line.round_trip == 0.1


def test_a_heartbeat_long_ago_counts_as_lost() -> None:
    line = Line()
    first = line.ask(0.0)
    for second in range(64):
        line.ask(float(second))
    line.answer(first, 64.0)
    assert line.round_trip is None
    line.answer(first + 1, 1.5)
    assert line.round_trip == 1.5


def test_a_probe_is_timed_without_the_round_trip() -> None:
    line = measured(0.1)
    number = line.probe(BIG, 10.0)
    assert number is not None
    assert line.probe(BIG, 10.0) is None, "one at a time"
    line.answer(number, 10.3)
    assert line.upload_rate == pytest.approx(BIG / 0.2)
    assert line.round_trip == 0.1, "it tells of the message, not of the line's round trip"


def test_over_little_nothing_is_told() -> None:
    assert measured(0.1).probe(1000, 1.0) is None


def test_a_probe_before_the_first_round_trip_tells_nothing() -> None:
    line = Line()
    number = line.probe(BIG, 0.0)
    assert number is not None
    line.answer(number, 0.3)
    assert line.upload_rate == 0.0 and line.round_trip is None
    assert line.probe(BIG, 1.0) is not None


def test_the_best_rate_is_forgotten_slowly() -> None:
    line = measured(0.1)
    for taken in (0.2, 2.0):
        number = line.probe(BIG, 0.0)
        assert number is not None
        line.answer(number, 0.1 + taken)
    assert line.upload_rate == pytest.approx(1e6 + 0.1 * (1e5 - 1e6))
