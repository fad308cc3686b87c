"""Noticing that this machine slept, was stopped, or is in another network."""

from __future__ import annotations

import pytest

from swarm.absence import Absence, own_addresses


class Machine:
    def __init__(self):
        self.monotonic, self.boot, self.own = 100.0, 1000.0, frozenset({"10.0.0.1"})
        self.returns = 0
        clocks = [lambda: self.monotonic, lambda: self.boot]
        self.absence = Absence(clocks, lambda: self.own)
        self.absence.watch(self.note)

    def note(self):
        self.returns += 1

    def wait(self, seconds, asleep=0.0):
        self.monotonic += seconds
        self.boot += seconds + asleep
        self.absence.look(1.0)


@pytest.mark.parametrize(
    ("seconds", "asleep", "returns"),
    [(1.0, 0.0, 0), (4.0, 0.0, 0), (1.0, 30.0, 1), (30.0, 0.0, 1)],
    ids=["usual", "a busy machine", "slept", "stopped"],
)
def test_only_a_long_time_away_counts(seconds, asleep, returns):
    machine = Machine()
    machine.wait(seconds, asleep)
    machine.wait(1.0)
    assert machine.returns == returns


def test_other_addresses_count_once():
    machine = Machine()
    machine.own = frozenset({"10.0.0.7"})
    machine.wait(1.0)
    machine.wait(1.0)
    assert machine.returns == 1


def test_this_machine_has_addresses():
    assert "127.0.0.1" in own_addresses()
