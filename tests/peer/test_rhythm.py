"""X9: sessions over several hops, with the peers' own policy in a simulation without any torch."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

import pytest

from swarm.peer.rhythm import Rhythm
from swarm.peer.scheduler import Scheduler, Slice

MS = 1e-3


@dataclass
class Stage:
    """A hop: a batch of n rows takes it `fixed + n * row` seconds, give or take a tenth."""

    fixed: float
    row: float
    parts: bool = True
    scheduler: Scheduler[int] = field(default_factory=Scheduler)
    rhythm: Rhythm = field(init=False)
    batch: list[Slice[int]] = field(default_factory=list)
    busy: float = 0.0

    def __post_init__(self) -> None:
        # As a peer that has only measured prompts, which underestimates rows of many sessions.
        self.rhythm = Rhythm(self.fixed + self.row, self.row / 2)

    def take(self, now: float) -> float | None:
        """Starts a batch if there is something to do; how long it takes."""
        if self.batch:
            return None
        limit = self.rhythm.max_steps(now) if self.parts else None
        self.batch = self.scheduler.next_batch(max_decode=limit)
        return self.fixed + len(self.batch) * self.row if self.batch else None

    def come(self, session: str, now: float) -> None:
        self.rhythm.came(session, now)
        self.scheduler.add(session, 0, 1)

    def end(self, seconds: float, now: float) -> list[str]:
        batch, self.batch = [piece.session for piece in self.batch], []
        self.rhythm.ran(batch, len(batch), seconds, now)
        self.busy += seconds
        return batch


@dataclass
class Ring:
    """Sessions that go through all stages, and begin again."""

    stages: list[Stage]
    num_sessions: int
    delay: float = 0.3 * MS
    seconds: float = 2.0
    rounds: Counter[str] = field(default_factory=Counter)

    def run(self, *, together: bool, seed: int = 0) -> float:
        """Rounds per second of all sessions."""
        chance = random.Random(seed)
        events: list[tuple[float, int, int, str | None, float]] = []
        order = count()

        def later(time: float, stage: int, session: str | None, seconds: float = 0.0) -> None:
            heapq.heappush(events, (time, next(order), stage, session, seconds))

        for number in range(self.num_sessions):
            later(0.0 if together else chance.random() * 20 * MS, 0, f"s{number}")
        now = 0.0
        while now < self.seconds:
            now, _, index, session, seconds = heapq.heappop(events)
            stage = self.stages[index]
            if session is not None:
                stage.come(session, now)
            else:
                for name in stage.end(seconds, now):
                    if index + 1 == len(self.stages):
                        self.rounds[name] += 1
                    later(now + self.delay, (index + 1) % len(self.stages), name)
            # Whatever comes at the same time is there before the next batch.
            if events and events[0][0] <= now:
                continue
            for number, each in enumerate(self.stages):
                if (duration := each.take(now)) is not None:
                    duration *= chance.uniform(0.9, 1.1)
                    later(now + duration, number, None, duration)
        return self.rounds.total() / self.seconds


def rate(*stages: tuple[float, float], sessions: int, together: bool, parts: bool = True) -> float:
    """Of hops and a client whose head takes all that is there at once, as a last stage."""
    hops = [Stage(fixed * MS, row * MS, parts) for fixed, row in stages]
    ring = Ring([*hops, Stage(4 * MS, 0.2 * MS, parts=False)], sessions)
    rounds = ring.run(together=together)
    assert min(ring.rounds.values()) > 0.8 * max(ring.rounds.values()) - 2, "somebody starves"
    return rounds


EQUAL = ((5.0, 0.4),) * 3


def test_sessions_that_travel_together_are_parted_where_rows_cost_much() -> None:
    """One large batch would walk through the hops while all but one are idle."""
    costly = ((5.0, 1.5),) * 3
    for stages, sessions, gain in ((EQUAL, 16, 1.25), (EQUAL, 32, 1.7), (costly, 16, 1.8)):
        parted = rate(*stages, sessions=sessions, together=True)
        assert parted > gain * rate(*stages, sessions=sessions, together=True, parts=False)
        # They end up as quick as sessions that never met.
        assert parted > 0.9 * rate(*stages, sessions=sessions, together=False)


@pytest.mark.parametrize("sessions", [1, 4, 24])
@pytest.mark.parametrize(
    "stages",
    [
        EQUAL,
        ((5.0, 0.15),) * 6,
        ((5.0, 0.4), (50.0, 4.0), (5.0, 0.4)),
        ((50.0, 1.5), (5.0, 0.15), (5.0, 0.15)),
        ((5.0, 0.4), (5.0, 0.4), (15.0, 1.2)),
    ],
)
def test_parting_costs_nobody_anything(stages, sessions) -> None:
    """Of unequal hops the slow one decides: it must have large batches."""
    for together in (False, True):
        plain = rate(*stages, sessions=sessions, together=together, parts=False)
        assert rate(*stages, sessions=sessions, together=together) > 0.95 * plain


def test_more_sessions_make_more_of_three_hops() -> None:
    alone = rate(*EQUAL, sessions=1, together=True)
    rates = [rate(*EQUAL, sessions=n, together=True) for n in (4, 16, 32)]
    assert rates[0] > 3 * alone and rates[1] > 6 * alone and rates[2] > 10 * alone


def test_costs_are_learnt_from_what_runs() -> None:
    rhythm, now = Rhythm(0.004, 0.0001), 0.0
    names = [f"s{i}" for i in range(4)]
    for number in range(400):
        for name in names:
            rhythm.came(name, now)
        num_rows = 8 + number % 3 - 1
        rhythm.ran(names, num_rows, 0.005 + num_rows * 0.001, now + 0.01)
        now += 0.1
    assert rhythm._fixed_seconds == pytest.approx(0.005, rel=0.4)
    assert rhythm._row_seconds == pytest.approx(0.001, rel=0.25)
    assert rhythm._away == pytest.approx(0.09)
    # Rows of 40 ms are worth parting while nearly all of a round passes elsewhere.
    assert rhythm.parts(20) > 1 and rhythm.parts(2) == 1


def test_rows_are_kept_together_where_sessions_come_back_at_once() -> None:
    """The slowest hop: what it parts only takes it longer."""
    rhythm, now = Rhythm(0.01, 0.01), 0.0
    names = [f"s{i}" for i in range(16)]
    for _ in range(50):
        for name in names:
            rhythm.came(name, now)
        rhythm.ran(names, 16, 0.02, now + 0.02)
        now += 0.021
    assert rhythm.parts(16) == 1 and rhythm.max_steps(now) == 16


def test_a_hop_lingers_less_and_less_in_vain_and_tries_again() -> None:
    rhythm = Rhythm(0.021, 0.001)
    assert rhythm.linger() == pytest.approx(0.006)
    for _ in range(20):
        rhythm.lingered(rhythm.linger(), 0)
    assert rhythm.linger() == 0.0
    waits = []
    for _ in range(200):
        waits.append(rhythm.linger())
        rhythm.lingered(waits[-1], 0)
    assert 2 < sum(wait > 0 for wait in waits) < 60 and max(waits) < 0.002
    # Company makes it wait again.
    for _ in range(10):
        rhythm.lingered(0.001, 1)
    assert rhythm.linger() == pytest.approx(0.006)


def test_where_batches_are_quicker_than_timers_nobody_lingers() -> None:
    assert Rhythm(0.001, 0.0).linger() == 0.0
    assert Rhythm(0.002, 0.0).linger() == 0.001


def test_nothing_is_known_at_first() -> None:
    rhythm = Rhythm(0.01, 0.001)
    assert rhythm.max_steps(0.0) == 1 and not rhythm.decoding(0.0)
    rhythm.came("a", 0.0)
    rhythm.came("b", 0.0)
    assert rhythm.max_steps(0.1) == 2


def test_who_stops_or_ends_does_not_decode_any_more() -> None:
    rhythm = Rhythm(0.01, 0.001)
    for name in "abc":
        rhythm.came(name, 0.0)
    rhythm.ran(["a", "b"], 2, 0.01, 0.5)
    rhythm.forget("b")
    assert set(rhythm.decoding(0.9)) == {"a", "c"}
    assert set(rhythm.decoding(1.2)) == {"a"}
    assert not rhythm.decoding(2.0)
    # A reader's pause between two replies is no way round.
    rhythm.came("a", 60.0)
    assert rhythm._away is None
