from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import pytest

from swarm.client.speculation.cost import StepCost
from swarm.client.speculation.guess import Grade, Guess
from swarm.client.speculation.window import Purse, Window, best_window

PLENTY = 1e9


def cost(fixed: float, per_row: float) -> StepCost:
    """A cost that has seen enough to be sure."""
    known = StepCost()
    for rows in (1, 1, 5, 20, 60, 1) * 8:
        known.note(rows, fixed + per_row * rows)
    return known


def window(chance: float, fixed: float, per_row: float, **options: float) -> Window:
    guesses = repeat(Guess(7, Grade("some", 0, chance)))
    settings = {"most": 63, "stake": PLENTY, **options}
    return best_window(guesses, lambda grade: grade.chance, cost(fixed, per_row), **settings)


def test_a_window_is_the_one_with_the_most_tokens_per_second() -> None:
    for chance, fixed, per_row in [(0.5, 0.02, 0.001), (0.9, 0.1, 0.002), (0.8, 0.01, 0.004)]:
        found = window(chance, fixed, per_row)
        rates = [
            sum(chance**i for i in range(size + 1)) / (fixed + per_row * (1 + size))
            for size in range(64)
        ]
        assert found.rate == pytest.approx(max(rates), rel=0.01)
        assert rates[found.size] == pytest.approx(max(rates), rel=0.01)


def test_a_longer_round_trip_makes_larger_windows() -> None:
    sizes = [window(0.9, fixed, 0.002).size for fixed in (0.005, 0.02, 0.1, 0.3)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_dear_rows_and_poor_guesses_make_none() -> None:
    assert window(0.9, 0.0, 0.05).size == 0
    assert window(0.05, 0.02, 0.005).size == 0
    none = best_window([], lambda grade: 1.0, cost(0.1, 0.0), most=9, stake=PLENTY)
    assert none.tokens == []


def test_a_window_has_its_bounds() -> None:
    assert window(0.99, 1.0, 1e-6, most=12).size == 12
    assert window(0.99, 1.0, 1e-6, most=0).size == 0
    staked = window(0.99, 0.1, 0.01, stake=0.055).size
    assert staked == 5, "five rows more may be lost"
    assert window(0.99, 0.1, 0.01, stake=-0.1).size == 0


def test_guesses_that_take_time_to_be_made_count_for_less() -> None:
    free, slow = window(0.8, 0.1, 0.001), window(0.8, 0.1, 0.001, each=0.03)
    assert 0 < slow.size < free.size
    assert window(0.8, 0.02, 0.001, each=0.03).size == 0


def test_no_more_guesses_are_made_than_could_pay() -> None:
    """Each may be a step of a model."""
    made = 0

    def guesses(chance: float) -> Iterator[Guess]:
        nonlocal made
        while True:
            made += 1
            yield Guess(1, Grade("some", 0, chance))

    known = cost(0.1, 0.001)
    best_window(guesses(0.01), lambda g: g.chance, known, most=63, stake=PLENTY, each=0.01)
    assert made == 1
    made = 0
    found = best_window(guesses(0.7), lambda g: g.chance, known, most=63, stake=PLENTY, each=0.01)
    assert found.size <= made <= found.size + 4


def test_a_purse_bounds_what_all_windows_lose() -> None:
    """Windows of which none ever brings anything, as long as any is allowed."""
    purse, plain, extra = Purse(), 0.1, 0.02
    spent, num_windows, steps = 0.0, 0, 1000
    for _ in range(steps):
        if purse.stake(plain) >= extra:
            purse.note(plain + extra, 1, plain)
            spent, num_windows = spent + plain + extra, num_windows + 1
        else:
            purse.pass_time(plain)
            spent += plain
    assert 0 < num_windows < steps / 5
    assert spent < 1.02 * steps * plain + plain


def test_savings_may_be_staked_but_not_for_ever() -> None:
    purse = Purse()
    before = purse.stake(0.1)
    purse.note(0.12, 5, 0.1)
    assert purse.stake(0.1) == pytest.approx(before + 0.38, abs=0.01)
    for _ in range(1000):
        purse.note(0.12, 20, 0.1)
    lost = 0.0
    while purse.stake(0.1) > 0.05:
        purse.note(0.15, 1, 0.1)
        lost += 0.05
        assert lost < 6.0, "sixteen steps, and what the time gone by allows"
