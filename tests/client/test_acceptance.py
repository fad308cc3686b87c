from __future__ import annotations

import pytest

from swarm.client.speculation.acceptance import Acceptance
from swarm.client.speculation.guess import Grade, Guess

SURE, UNSURE = Grade("some", 2, 0.9), Grade("some", 1, 0.2)


def test_a_grade_counts_as_it_presumes_until_it_is_known() -> None:
    acceptance = Acceptance()
    assert acceptance.chance(SURE) == pytest.approx(0.9)
    for _ in range(40):
        acceptance.note([Guess(5, SURE)], [6])
    assert acceptance.chance(SURE) < 0.1 and acceptance.chance(UNSURE) == pytest.approx(0.2)


def test_guesses_after_a_wrong_one_say_nothing() -> None:
    acceptance = Acceptance()
    acceptance.note([Guess(1, SURE), Guess(2, UNSURE)], [9, 2])
    assert acceptance.chance(SURE) < 0.9 and acceptance.chance(UNSURE) == pytest.approx(0.2)
    acceptance.note([Guess(1, SURE), Guess(2, UNSURE)], [1, 2])
    assert acceptance.chance(UNSURE) > 0.2


def test_guesses_for_which_no_token_came_say_nothing() -> None:
    acceptance = Acceptance()
    acceptance.note([Guess(1, UNSURE), Guess(2, SURE)], [1])
    assert acceptance.chance(SURE) == pytest.approx(0.9)


def test_the_past_is_forgotten() -> None:
    acceptance = Acceptance()
    for _ in range(20):
        acceptance.note([Guess(1, SURE)], [2])
    low = acceptance.chance(SURE)
    acceptance.forget(1000)
    assert acceptance.chance(SURE) == pytest.approx(0.9, abs=0.01) and low < 0.2
