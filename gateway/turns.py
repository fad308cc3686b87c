"""Whose turn it is: policy alone, told the time, without sockets and tasks."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum

_ENDINGS = 32
"""Turns that have ended lately, by which the time until the next ones is estimated."""

_FIRST_GUESS = 5.0
_LONGEST = 60.0
"""Seconds to come back after: while no turn has ended yet, and at most."""


class State(Enum):
    """Where a request is in its life here."""

    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


@dataclass(eq=False)
class Turn:
    """One request of a caller, which takes `places` at once."""

    caller: str
    places: int
    state: State = State.WAITING


class Full(Exception):
    """There is no more room to wait; `retry_after` seconds may change that."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Turns:
    """Shares `most_running` places among callers.

    The caller with the fewest places is next; among equals the one whose last turn began the
    longest ago. One caller's requests begin in the order in which they came. Nobody overtakes the
    next one, who may need more places than are free: else it would wait for ever.
    """

    def __init__(self, most_running: int, most_waiting: int, most_waiting_each: int) -> None:
        self._most_running = most_running
        self._most_waiting = most_waiting
        self._most_waiting_each = most_waiting_each
        self._waiting: dict[str, deque[Turn]] = {}
        self._places: Counter[str] = Counter()
        self._begun: dict[str, int] = {}
        self._num_begun = 0
        self._endings: deque[tuple[float, int]] = deque(maxlen=_ENDINGS)

    @property
    def num_waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def num_places(self) -> int:
        """Places that are taken."""
        return self._places.total()

    def check(self, caller: str, places: int, now: float) -> None:
        """Raises `Full` where `join` would."""
        assert 1 <= places <= self._most_running, "the limits of a request are checked before"
        if not self._waiting and self.num_places + places <= self._most_running:
            return
        mine = len(self._waiting.get(caller, ()))
        if mine >= self._most_waiting_each:
            text = f"{mine} of your requests wait already, as many as may"
            raise Full(text, self._time_until(places, now))
        if self.num_waiting >= self._most_waiting:
            text = f"{self.num_waiting} requests wait already, as many as may"
            raise Full(text, self._time_until(places, now))

    def join(self, caller: str, places: int, now: float) -> Turn:
        """Stands in line; `start` says when it is its turn. Raises `Full`."""
        self.check(caller, places, now)
        turn = Turn(caller, places)
        self._waiting.setdefault(caller, deque()).append(turn)
        return turn

    def start(self) -> list[Turn]:
        """The requests that begin now."""
        started = []
        while (turn := self._next()) is not None:
            self._drop(turn)
            turn.state = State.RUNNING
            self._places[turn.caller] += turn.places
            self._num_begun += 1
            self._begun[turn.caller] = self._num_begun
            started.append(turn)
        return started

    def leave(self, turn: Turn, now: float) -> None:
        """A request has ended, or its caller has gone away."""
        if turn.state is State.WAITING:
            self._drop(turn)
        elif turn.state is State.RUNNING:
            self._places[turn.caller] -= turn.places
            self._endings.append((now, turn.places))
        turn.state = State.OVER
        self._forget(turn.caller)

    def _next(self) -> Turn | None:
        if not self._waiting:
            return None
        caller = min(self._waiting, key=lambda each: (self._places[each], self._begun.get(each, 0)))
        turn = self._waiting[caller][0]
        return turn if self.num_places + turn.places <= self._most_running else None

    def _drop(self, turn: Turn) -> None:
        line = self._waiting[turn.caller]
        line.remove(turn)
        if not line:
            del self._waiting[turn.caller]

    def _forget(self, caller: str) -> None:
        """Callers come and go; who has nothing here takes no memory."""
        if not self._places[caller]:
            del self._places[caller]
            if caller not in self._waiting:
                self._begun.pop(caller, None)

    def _time_until(self, places: int, now: float) -> float:
        """Seconds until there may be room, by how fast turns have ended."""
        if not self._endings:
            return _FIRST_GUESS
        ahead = sum(turn.places for line in self._waiting.values() for turn in line) + places
        passed = max(now - self._endings[0][0], 1e-3)
        rate = sum(number for _, number in self._endings) / passed
        return min(_LONGEST, max(1.0, ahead / rate))
