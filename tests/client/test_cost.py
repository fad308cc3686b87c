from __future__ import annotations

import random

import pytest

from swarm.client.speculation.cost import StepCost


def test_nothing_is_known_before_the_first_step() -> None:
    cost = StepCost()
    assert not cost.known
    cost.note(1, 0.1)
    assert cost.known and cost.seconds(1) == pytest.approx(0.1)
    assert StepCost(0.05).known and StepCost(0.05).seconds(1) == pytest.approx(0.05)


def test_the_presumed_cost_of_rows_counts_until_windows_have_been_seen() -> None:
    cost = StepCost(0.02, 0.001)
    for _ in range(5):
        cost.note(1, 0.1)
    assert cost.seconds(11) - cost.seconds(1) == pytest.approx(0.01)


def test_a_line_is_found_in_noisy_steps() -> None:
    cost, draw = StepCost(0.01, 0.0), random.Random(0)
    for _ in range(200):
        rows = draw.choice([1, 1, 4, 9, 20])
        cost.note(rows, 0.1 + 0.002 * rows + draw.gauss(0, 0.003))
    assert cost.seconds(1) == pytest.approx(0.102, rel=0.05)
    assert cost.seconds(20) == pytest.approx(0.14, rel=0.05)


def test_rows_never_seem_to_save_time() -> None:
    cost = StepCost()
    for rows, seconds in [(1, 0.2), (8, 0.1)] * 20:
        cost.note(rows, seconds)
    assert cost.seconds(30) >= cost.seconds(1) > 0


def test_one_long_step_is_not_believed_but_a_slow_route_soon_is() -> None:
    cost = StepCost()
    for _ in range(20):
        cost.note(1, 0.02)
    cost.note(1, 5.0)
    assert cost.seconds(1) < 0.03
    for _ in range(40):
        cost.note(1, 0.2)
    assert cost.seconds(1) == pytest.approx(0.2, rel=0.2)


def test_steps_that_take_no_time_cost_next_to_nothing_but_not_nothing() -> None:
    cost = StepCost()
    cost.note(1, 0.0)
    assert 0 < cost.seconds(5) < 1e-3
