"""How decode steps come and go at this hop, and into how many groups it pays to part them.

Every hop takes what is ready when it becomes free: that needs no coordinator, and where rows are
nearly free (decoding reads all weights, however many rows there are) nothing is better. But
sessions that travel together stay together, and once their rows cost more than reading the weights
does, the hops behind this one stand idle while a large batch is computed. Then it is parted. How
far follows from what this hop sees: `parts` costs it nothing, since a group is computed while the
others are away. Policy only: no torch, no clock. docs/scheduling.md has the argument.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

_WORTH = 0.05
"""Part of a session's round that one group more has to save."""

_SMOOTH = 0.1
_FORGET = 0.98
"""What older batches count beside the newest, from batch to batch."""

_PATIENCE = 4.0
"""Rounds after which a session no longer counts as decoding, at least `_LEAST` seconds."""

_LEAST = 1.0
_LINGER = 0.3
"""Part of a batch's fixed time for which a hop lingers at most."""

_TICK = 0.001
"""Event loops count milliseconds."""

_MAX_TIMED = 5.0
"""Seconds that a session may be away without being somewhere else than on its way."""


class Rhythm:
    """Times in seconds. `decode_seconds` and `row_seconds` are first guesses of a batch's cost.

    A batch of `n` rows (positions of decode steps) takes a fixed time and `n` times another; both
    are estimated from the batches that run.
    """

    def __init__(self, decode_seconds: float = 0.0, row_seconds: float = 0.0) -> None:
        self._row_seconds = row_seconds
        self._fixed_seconds = max(0.0, decode_seconds - row_seconds)
        # That one row takes `decode_seconds` counts as a batch that is never forgotten: where all
        # batches are alike, it is what tells the cost of a row.
        self._alone = (1.0, 1.0, decode_seconds, 1.0, decode_seconds)
        # Weighted sums over batches: of 1, rows, seconds, rows², rows times seconds.
        self._sums: tuple[float, ...] = (0.0,) * 5
        self._rows_per_step = 1.0
        self._away: float | None = None
        self._hopes = {False: 1.0, True: 1.0}
        # When each session's last decode step came or was done; the oldest first.
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._gone: dict[str, float] = {}

    def came(self, session: str, now: float) -> None:
        """A decode step has arrived."""
        self._seen[session] = now
        self._seen.move_to_end(session)
        gone = self._gone.pop(session, None)
        if gone is not None and now - gone <= _MAX_TIMED:
            away = now - gone
            self._away = away if self._away is None else _mixed(self._away, away)

    def ran(self, sessions: list[str], num_rows: int, seconds: float, now: float) -> None:
        """A batch of decode steps alone, of `num_rows` positions, is done."""
        for session in sessions:
            self._seen[session] = self._gone[session] = now
            self._seen.move_to_end(session)
        if sessions:
            self._rows_per_step = _mixed(self._rows_per_step, num_rows / len(sessions))
        fresh = (1.0, num_rows, seconds, num_rows**2, num_rows * seconds)
        self._sums = tuple(_FORGET * old + new for old, new in zip(self._sums, fresh, strict=True))
        self._fit()

    def forget(self, session: str) -> None:
        """A session has ended."""
        self._seen.pop(session, None)
        self._gone.pop(session, None)

    def decoding(self, now: float) -> Collection[str]:
        """Sessions that decode: here, or on their way round."""
        latest = now - max(_LEAST, _PATIENCE * (self._fixed_seconds + (self._away or 0.0)))
        while self._seen and next(iter(self._seen.values())) < latest:
            self.forget(next(iter(self._seen)))
        return self._seen.keys()

    def max_steps(self, now: float) -> int:
        """How many decode steps one batch should take at most."""
        num_steps = len(self.decoding(now))
        return -(-num_steps // self.parts(num_steps)) if num_steps else 1

    def linger(self, *, promised: bool = False) -> float:
        """Seconds for which a hop that has nothing to do should wait behind a first step.

        The steps of a batch leave the hop before one after the other: without waiting, the first
        would be computed alone, and after a few hops every session would travel alone. Where more
        are `promised`, the first has said that it was computed with others; else they may come,
        or not. Where that was in vain lately, the hop waits less and less, down to not at all.
        """
        seconds = self._hopes[promised] * _LINGER * self._fixed_seconds
        return max(_TICK, seconds) if seconds >= _TICK / 2 else 0.0

    def lingered(self, seconds: float, num_more: int, *, promised: bool = False) -> None:
        """A hop has waited so long behind a first step, and so many more came."""
        hope = self._hopes[promised]
        if num_more:
            self._hopes[promised] = min(1.0, 1.5 * hope)
        elif seconds:
            self._hopes[promised] = max(0.05, 0.8 * hope)
        else:
            self._hopes[promised] = min(1.0, 1.02 * hope)  # Until it is worth another try.

    def parts(self, num_steps: int) -> int:
        """Groups into which to part `num_steps` sessions.

        As many as this hop can compute before the first is back, while each further group saves a
        session enough of its round. A slow hop sees its sessions return soon and keeps them
        together; a quick one has little to save.
        """
        if self._away is None:
            return 1
        fixed, rows = self._fixed_seconds, self._row_seconds * self._rows_per_step * num_steps
        parts = 1
        while parts < num_steps:
            more = parts + 1
            fits = more * fixed + rows <= fixed + rows / more + self._away
            round_seconds = self._away + fixed + rows / parts
            if not fits or rows / parts - rows / more < _WORTH * round_seconds:
                break
            parts = more
        return parts

    def _fit(self) -> None:
        """Least squares: seconds of a batch over its rows."""
        weight, rows, spent, squares, products = (
            seen + alone for seen, alone in zip(self._sums, self._alone, strict=True)
        )
        spread = squares - rows**2 / weight
        if spread >= 0.5:
            self._row_seconds = max(0.0, (products - rows * spent / weight) / spread)
        self._fixed_seconds = max(0.0, (spent - self._row_seconds * rows) / weight)


def _mixed(old: float, new: float) -> float:
    return old + _SMOOTH * (new - old)
