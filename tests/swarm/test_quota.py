from __future__ import annotations

import pytest

from swarm.transport.quota import Allowance, Allowances, Pace, Quota


def test_a_quota_holds_each_and_all_to_their_limits() -> None:
    quota: Quota[str] = Quota(each=3, total=5)
    assert quota.fits("a", 3) and not quota.fits("a", 4)
    quota.add("a", 3)
    assert not quota.fits("a") and quota.fits("b", 2) and not quota.fits("b", 3)
    quota.remove("a", 2)
    assert (quota.of("a"), quota.held, quota.fits("a", 2)) == (1, 1, True)


def test_who_holds_most_is_found_when_all_hold_too_much() -> None:
    quota: Quota[str] = Quota(each=10, total=10)
    assert quota.largest is None
    quota.add("a", 4)
    quota.add("b", 6)
    assert not quota.overflows
    quota.add("a", 3)
    assert quota.overflows and quota.largest == "a"


def test_an_allowance_bears_a_burst_and_then_slows_down_to_its_rate() -> None:
    allowance = Allowance(rate=10, burst=20)
    for _ in range(20):
        allowance.spend(1, now=100.0)
    assert allowance.debt(100.0) == 0
    allowance.spend(5, now=100.0)
    assert allowance.debt(100.0) == pytest.approx(0.5)
    assert allowance.debt(100.4) == pytest.approx(0.1)
    assert allowance.debt(101.0) == 0


def test_an_allowance_is_not_saved_up_for_ever() -> None:
    allowance = Allowance(rate=10, burst=20)
    allowance.spend(0, now=0.0)
    allowance.spend(30, now=1000.0)
    assert allowance.debt(1000.0) == pytest.approx(1.0)


def test_everybody_has_an_allowance_of_their_own() -> None:
    all_of_them: Allowances[str] = Allowances(rate=1, burst=2, remembered=2)
    spent = [all_of_them.spend("a", 1, 0.0) for _ in range(5)]
    assert spent == [True, True, True, False, False], "what is refused costs nothing"
    assert all_of_them.spend("b", 1, 0.0) and not all_of_them.spend("a", 1, 0.5)
    assert all_of_them.spend("a", 1, 1.5)
    assert all_of_them.spend("c", 1, 1.5) and all_of_them.spend("b", 1, 1.5)
    assert len(all_of_them._all) == 2


def test_a_trickle_stalls_and_a_slow_line_does_not() -> None:
    for rate, stalls in ((50, True), (200, False)):
        pace = Pace(rate=100, window=10)
        seen = [pace.stalls(rate * second, float(second)) for second in range(35)]
        assert seen == [stalls and second > 0 and second % 10 == 0 for second in range(35)]


def test_what_rests_between_does_not_stall() -> None:
    pace = Pace(rate=100, window=10)
    assert not pace.stalls(0, 0.0)
    assert not pace.stalls(0, 9.0)
    pace.rest()
    assert not pace.stalls(0, 12.0)
    assert pace.stalls(0, 22.0)
