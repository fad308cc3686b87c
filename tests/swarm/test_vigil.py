from __future__ import annotations

import pytest

from swarm.transport.line import Line
from swarm.transport.vigil import Heartbeats, Vigil

CONFIG = Heartbeats(interval=0.5, patience=3.0, alert_interval=0.2, alert_patience=0.8)


def line(*trips: float) -> Line:
    measured = Line()
    for trip in trips:
        measured.answer(measured.ask(0.0), trip)
    return measured


@pytest.fixture
def vigil() -> Vigil:
    vigil = Vigil(CONFIG, line(0.01))
    vigil.begin(0.0, accepted=False)
    return vigil


def test_who_is_silent_for_longer_than_patience_is_gone(vigil: Vigil) -> None:
    assert not vigil.overdue(2.9)
    assert vigil.overdue(3.1)
    vigil.heard_at = 3.0
    assert not vigil.overdue(5.9)


def test_who_has_opened_the_link_is_given_longer_to_say_something() -> None:
    vigil = Vigil(CONFIG, line())
    vigil.begin(0.0, accepted=True)
    assert not vigil.overdue(5.9)
    assert vigil.overdue(6.1)


def test_silence_counts_from_when_somebody_begins_to_wait(vigil: Vigil) -> None:
    assert vigil.attend(10.0, 2.0)
    assert not vigil.attend(10.0, 2.1), "it was noticed quickly already"
    assert not vigil.overdue(2.7)
    assert vigil.overdue(2.9)


def test_attention_that_is_over_is_none(vigil: Vigil) -> None:
    vigil.attend(0.5, 0.0)
    assert not vigil.overdue(1.0)
    assert vigil.attend(0.5, 1.0)


@pytest.mark.parametrize(("trips", "gone_after"), [((0.01,), 0.8), ((0.2,), 2.6), ((), 3.0)])
def test_a_line_that_takes_long_is_given_longer(
    trips: tuple[float, ...], gone_after: float
) -> None:
    vigil = Vigil(CONFIG, line(*trips))
    vigil.begin(0.0, accepted=False)
    vigil.attend(10.0, 0.0)
    assert not vigil.overdue(gone_after - 0.01)
    assert vigil.overdue(gone_after + 0.01)


def test_a_false_alarm_makes_lenient(vigil: Vigil) -> None:
    vigil.leniency = 2.0
    vigil.attend(10.0, 0.0)
    assert not vigil.overdue(1.59)
    assert vigil.overdue(1.61)


def test_a_part_of_a_message_is_a_sign_of_life(vigil: Vigil) -> None:
    vigil.look(0, 2.0)
    assert vigil.heard_at == 0.0
    vigil.look(1, 2.0)
    assert vigil.heard_at == 2.0
    vigil.look(1, 1.0)
    assert vigil.heard_at == 2.0, "it does not go back"


def test_who_held_its_own_loop_up_blames_nobody(vigil: Vigil) -> None:
    vigil.excuse(100.0, 0.5)
    assert not vigil.overdue(100.0)
    assert vigil.overdue(103.0)


def test_looks_come_often_while_it_matters(vigil: Vigil) -> None:
    assert vigil.interval(0.0) == CONFIG.interval
    vigil.look(1000, 0.0)
    assert vigil.interval(0.0) == CONFIG.interval
    vigil.look(1 << 20, 0.0)
    assert vigil.interval(0.0) == CONFIG.alert_interval
    vigil.look(0, 0.0)
    vigil.attend(1.0, 0.0)
    assert vigil.interval(0.9) == CONFIG.alert_interval
    assert vigil.interval(1.1) == CONFIG.interval


def test_signs_of_life_are_asked_for_and_given_in_time(vigil: Vigil) -> None:
    vigil.heard_at = vigil.said_at = 10.0
    assert not vigil.wants_ping(10.4)
    assert vigil.wants_ping(10.5), "both are silent"
    vigil.said_at = 10.5
    assert vigil.wants_ping(10.5), "it has said nothing"
    vigil.ask(10.5)
    assert not vigil.wants_ping(10.9), "it has been asked"
    vigil.heard_at = 10.9
    assert vigil.wants_ping(11.0), "we have said nothing"


def test_a_line_of_which_nothing_is_known_is_measured() -> None:
    vigil = Vigil(CONFIG, line())
    vigil.begin(0.0, accepted=False)
    assert vigil.wants_ping(0.0)
