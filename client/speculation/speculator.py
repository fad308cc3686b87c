"""Guesses ahead for one reply: asks the drafters, chooses the window, learns from the outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import islice, repeat

from .acceptance import Acceptance
from .config import MOST, SpeculationConfig
from .cost import StepCost
from .guess import Drafter, Grade, Guess, SlowDrafter
from .window import Purse, Window, best_window

_FEWEST_ROWS = 8
"""A step of one row, which reads all weights, is taken to last as long as so many rows of a prompt
do, until one has been seen. It hardly lasts less."""

_ANY = Grade("slow drafter", 0, 0.6)
"""A slow drafter's guess of which nothing is known yet but who makes it."""

_SMOOTH = 0.2
"""Weight of the newest time that a slow drafter's guess has taken."""


class Speculator:
    """What to send along with the next token. No drafter has anything of the text yet."""

    def __init__(
        self,
        config: SpeculationConfig,
        drafters: Sequence[Drafter] = (),
        slow: SlowDrafter | None = None,
    ) -> None:
        self._config = config
        self._drafters = list(drafters) if config.wanted else []
        self._slow = slow if config.wanted else None
        self._slow_seconds = slow.seconds if slow else 0.0
        self._preparing: asyncio.Future[None] | None = None
        self._cost = StepCost()
        self._acceptance = Acceptance()
        self._purse = Purse()
        self._windows: list[Window] = []
        self._sent = Window()
        self._spent = 0.0

    def push(self, tokens: Sequence[int]) -> None:
        """The text begins with these tokens, or has grown by them."""
        drafters = [*self._drafters, *([self._slow] if self._slow is not None else [])]
        for token in tokens:
            for drafter in drafters:
                drafter.push(token)

    def prepare(self) -> None:
        """Lets a slow drafter read the prompt while the peers do. Called once, in a running loop.

        Until it is done there are guesses of others only.
        """
        if self._slow is not None:
            loop = asyncio.get_running_loop()
            self._preparing = loop.run_in_executor(None, self._slow.prepare)

    def expect(self, per_row: float) -> None:
        """The route is another one, whose peers announced so many seconds for a prompt's row."""
        self._cost = StepCost(_FEWEST_ROWS * per_row, per_row)

    async def draft(self, room: int) -> list[int]:
        """The guesses to send with the next step: at most `room`, perhaps none."""
        most = min(MOST, room)
        if self._config.window is not None:
            most = min(most, self._config.window)
        self._windows = [self._window(drafter, most) for drafter in self._drafters]
        best = max(self._windows, key=lambda window: window.rate, default=Window())
        if self._slow_pays(most, best):
            best = max(best, await self._slow_window(most), key=lambda window: window.rate)
        self._sent = best
        return best.tokens

    def note(self, tokens: Sequence[int], seconds: float | None) -> None:
        """The step has brought `tokens`; `seconds` None: it says nothing of what steps cost."""
        rows = 1 + self._sent.size
        if seconds is not None:
            self._count(rows, len(tokens), seconds)
        for window in self._windows:
            self._acceptance.note(window.guesses, tokens)
        self._acceptance.forget(len(tokens))
        self._windows, self._sent, self._spent = [], Window(), 0.0
        self.push(tokens)

    def _count(self, rows: int, num_tokens: int, seconds: float) -> None:
        self._cost.note(rows, seconds)
        if rows > 1 or self._spent:
            self._purse.note(seconds + self._spent, num_tokens, self._cost.seconds(1))
        else:
            self._purse.pass_time(seconds)

    def _window(self, drafter: Drafter, most: int, each: float = 0.0) -> Window:
        """The best window of one drafter, whose guesses take `each` seconds to be made."""
        if self._config.window is not None:
            guesses = tuple(islice(drafter.guesses(), most))
            expected = sum(self._acceptance.chance(guess.grade) for guess in guesses[:1])
            return Window(guesses, len(guesses), expected)
        if not self._cost.known:
            return Window(tuple(islice(drafter.guesses(), 1)))
        chance, cost = self._acceptance.chance, self._cost
        stake = self._purse.stake(cost.seconds(1))
        return best_window(drafter.guesses(), chance, cost, most=most, stake=stake, each=each)

    def _slow_pays(self, most: int, best: Window) -> bool:
        """Whether asking the slow drafter promises more than `best`."""
        if self._slow is None or not most:
            return False
        if self._preparing is not None:
            if not self._preparing.done():
                return False
            self._preparing.result()
        if self._config.window is not None:
            return not best.size
        if not self._cost.known:
            return False
        stake = self._purse.stake(self._cost.seconds(1))
        prospect = best_window(
            repeat(Guess(-1, _ANY)),
            self._acceptance.chance,
            self._cost,
            most=most,
            stake=stake,
            each=self._slow_seconds,
        )
        return prospect.size > 0 and prospect.rate > best.rate

    async def _slow_window(self, most: int) -> Window:
        assert self._slow is not None
        started = time.perf_counter()
        # In a thread: others' messages and heartbeats go on meanwhile.
        window = await asyncio.to_thread(self._window, self._slow, most, self._slow_seconds)
        self._spent = time.perf_counter() - started
        each = self._spent / max(1, len(window.guesses))
        self._slow_seconds += _SMOOTH * (each - self._slow_seconds)
        self._windows += [window, Window(tuple(Guess(g.token, _ANY) for g in window.guesses))]
        return window
