"""Bodies that come at the same time: within so many bytes, which nobody has alone."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from swarm.gateway.answer import Caller
from swarm.gateway.intake import Intake
from swarm.gateway.refusals import Reason, Refusal

MOST = 1000
ANN, BEN = Caller("ann", "1"), Caller("ann", "2")


def test_one_caller_leaves_room_for_others() -> None:
    intake = Intake(MOST)
    with ExitStack() as coming:
        for _ in range(8):
            coming.enter_context(intake.room(ANN, MOST))
        with pytest.raises(Refusal) as refused, intake.room(ANN, 1):
            pass
        assert refused.value.reason is Reason.BUSY and refused.value.retry_after
        with intake.room(BEN, MOST):
            pass
    with intake.room(ANN, MOST):
        pass


def test_all_callers_together_have_limits() -> None:
    intake = Intake(MOST)
    with ExitStack() as coming:
        for number in range(32):
            coming.enter_context(intake.room(Caller("ann", str(number)), MOST))
        with pytest.raises(Refusal), intake.room(BEN, 1):
            pass


def test_a_body_of_unknown_length_may_be_the_longest() -> None:
    intake = Intake(MOST)
    with ExitStack() as coming:
        for _ in range(8):
            coming.enter_context(intake.room(ANN, None))
        with pytest.raises(Refusal), intake.room(ANN, None):
            pass


def test_short_bodies_take_little() -> None:
    intake = Intake(MOST)
    with ExitStack() as coming:
        for _ in range(1000):
            coming.enter_context(intake.room(ANN, 8))
