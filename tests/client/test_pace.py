from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.client.pace import _ENOUGH, Pace


def paced(*times: float) -> Pace:
    pace = Pace(8.0, 1.0)
    for seconds in times:
        pace.note(seconds)
    return pace


def test_little_is_known_at_first() -> None:
    for number in range(_ENOUGH):
        assert paced(*[0.1] * number).patience == 8.0
    assert paced(*[0.1] * _ENOUGH).patience < 8.0


def test_steady_steps_bring_it_down_to_the_least() -> None:
    assert paced(*[0.05] * 50).patience == 1.0


def test_slow_steps_are_ordinary_where_all_are_slow() -> None:
    assert 2.0 < paced(*[2.0] * 100).patience < 2.1


def test_it_never_exceeds_the_first() -> None:
    assert paced(*[60.0] * 20).patience == 8.0


def test_one_slow_step_makes_it_more_patient_for_a_while() -> None:
    steady = [0.5] * 40
    after, later = paced(*steady, 1.5).patience, paced(*steady, 1.5, *steady).patience
    assert after > 2.0 and later == 1.0


@given(st.lists(st.floats(0.001, 30), min_size=_ENOUGH))
def test_it_is_between_the_least_and_the_first(times: list[float]) -> None:
    assert 1.0 <= paced(*times).patience <= 8.0
