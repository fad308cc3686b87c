from __future__ import annotations

from contextlib import ExitStack

import pytest

from swarm.bootstrap.callers import CallerConfig, Callers
from swarm.bootstrap.denial import NotGranted
from swarm.errors import ConfigError
from swarm.wire.enrolment import Decline


def asks(callers: Callers, peer: str = "a") -> bool:
    try:
        with callers.attended(peer):
            return True
    except NotGranted as error:
        assert error.why is Decline.BUSY
        return False


def test_a_budget_comes_back(clock) -> None:
    callers = Callers(CallerConfig(budget=3), clock)
    assert [asks(callers) for _ in range(5)] == [True, True, True, False, False]
    assert asks(callers, "b")
    clock.pass_by(1)
    assert [asks(callers) for _ in range(2)] == [True, False]
    clock.pass_by(1000)
    assert [asks(callers) for _ in range(4)] == [True, True, True, False]


def test_a_vain_question_costs_more(clock) -> None:
    callers = Callers(CallerConfig(budget=10, vain_cost=5), clock)
    for _ in range(2):
        assert asks(callers)
        callers.refused("a")
    assert not asks(callers)


def test_places_are_given_back(clock) -> None:
    callers = Callers(CallerConfig(max_streams=3, caller_streams=2), clock)
    with ExitStack() as stack:
        for peer in ("a", "a"):
            stack.enter_context(callers.attended(peer))
        assert not asks(callers, "a")
        with callers.attended("b"):
            assert not asks(callers, "c")
        assert asks(callers, "c")
    assert asks(callers, "a")


def test_what_is_remembered_is_bounded(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.bootstrap.callers._MAX_KNOWN", 10)
    callers = Callers(CallerConfig(), clock)
    for number in range(100):
        asks(callers, f"stranger {number}")
    assert len(callers._spent) <= 10
    assert not callers._present


@pytest.mark.parametrize(
    "changes", [{"max_streams": 0}, {"caller_streams": 0}, {"budget": 0}, {"vain_cost": 0}]
)
def test_limits_that_let_nobody_in(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        CallerConfig(**changes)
