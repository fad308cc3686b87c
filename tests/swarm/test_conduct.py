from __future__ import annotations

from typing import Any

import pytest

from swarm.errors import ConfigError
from swarm.transport.conduct import Conduct, ConductLimits, Moved
from swarm.wire.linking import Ping
from swarm.wire.messages import Close, Output, Step, Want

LIMITS = ConductLimits(message_rate=10, message_burst=20, stall=10, least_rate=100)
CLOSE = Close("s" * 16)
STEP = Step("s" * 16, 0, 0, 0, (), Want.NOTHING)
OUTPUT = Output("s" * 16, 0, 0, 0, (), Want.NOTHING)


@pytest.fixture
def conduct() -> Conduct:
    return Conduct(LIMITS)


@pytest.mark.parametrize("name", ["message_rate", "message_burst", "stall", "least_rate"])
def test_limits_are_checked(name: str) -> None:
    limits: dict[str, Any] = {name: 0}
    with pytest.raises(ConfigError):
        ConductLimits(**limits)


def test_requests_beyond_a_burst_are_to_be_read_later(conduct: Conduct) -> None:
    for _ in range(20):
        conduct.note(CLOSE, 0.0)
    assert not conduct.owes
    conduct.note(CLOSE, 0.0)
    assert conduct.owes and conduct.debt(0.0) == pytest.approx(0.1)
    assert not conduct.owes


def test_what_a_link_is_for_costs_little_unless_it_brings_nothing(conduct: Conduct) -> None:
    for message in (STEP, OUTPUT, Ping(1)) * 30:
        conduct.note(message, 0.0)
    assert not conduct.owes
    for _ in range(10):
        conduct.note(STEP, 0.0)
        conduct.charge(1.0, 0.0)
    assert conduct.owes


def test_a_reader_that_takes_a_byte_now_and_then_is_at_fault(conduct: Conduct) -> None:
    def moved(second: int, rate: int) -> Moved:
        return Moved(1_000_000, second * rate, 30 * second, second)

    assert [conduct.fault(moved(at, 200), at) for at in range(40)] == [None] * 40
    faults = [conduct.fault(moved(at, 3), at) for at in range(40, 80)]
    assert "reads too slowly" in str(next(filter(None, faults)))


def test_a_writer_whose_frame_never_ends_is_at_fault(conduct: Conduct) -> None:
    honest = [conduct.fault(Moved(0, 0, 200 * at, 7), at) for at in range(40)]
    idle = [conduct.fault(Moved(0, 0, 8000 + 30 * at, 7 + at), at) for at in range(40, 80)]
    assert not any(honest) and not any(idle), "heartbeats alone are few bytes, but whole frames"
    trickle = [conduct.fault(Moved(0, 0, 20_000 + 3 * at, 90), at) for at in range(80, 120)]
    assert "writes too slowly" in str(next(filter(None, trickle)))


def test_nobody_is_at_fault_for_the_time_that_we_slept(conduct: Conduct) -> None:
    stuck = Moved(1000, 5, 5, 1)
    assert conduct.fault(stuck, 0.0) is None
    conduct.rest()
    assert conduct.fault(stuck, 1000.0) is None
    assert conduct.fault(stuck, 1010.0) is not None
