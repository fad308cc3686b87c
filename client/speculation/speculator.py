"""Guesses ahead for one reply: asks the drafters, chooses the window, learns from the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from .acceptance import Acceptance
from .config import MOST, SpeculationConfig
from .cost import StepCost
from .guess import Drafter
from .window import Purse, Window, best_window

_FEWEST_ROWS = 8
"""A step of one row, which reads all weights, is taken to last as long as so many rows of a prompt
do, until one has been seen. It hardly lasts less."""


class Speculator:
    """What to send along with the next token. `drafters` have nothing of the text yet."""

    def __init__(self, config: SpeculationConfig, drafters: Sequence[Drafter]) -> None:
        self._config = config
        self._drafters = drafters
        self._cost = StepCost()
        self._acceptance = Acceptance()
        self._purse = Purse()
        self._windows: list[Window] = []
        self._sent = Window()

    def push(self, tokens: Sequence[int]) -> None:
        """The text begins with these tokens, or has grown by them."""
        for drafter in self._drafters:
            drafter.push(tokens)

    def expect(self, per_row: float) -> None:
        """The route is another one, whose peers announced so many seconds for a prompt's row."""
        self._cost = StepCost(_FEWEST_ROWS * per_row, per_row)

    def draft(self, room: int) -> list[int]:
        """The guesses to send with the next step: at most `room`, perhaps none."""
        most = min(MOST, room)
        if self._config.window is None:
            self._windows = [self._best(drafter, most) for drafter in self._drafters]
        else:
            most = min(most, self._config.window)
            self._windows = [self._fixed(drafter, most) for drafter in self._drafters]
        self._sent = max(self._windows, key=lambda window: window.rate, default=Window())
        return self._sent.tokens

    def note(self, tokens: Sequence[int], seconds: float | None) -> None:
        """The step has brought `tokens`; `seconds` None: it says nothing of what steps cost."""
        rows = 1 + self._sent.size
        if seconds is not None:
            if rows > 1 and self._cost.known:
                self._purse.note(seconds, len(tokens), self._cost.seconds(1))
            else:
                self._purse.pass_time(seconds)
            self._cost.note(rows, seconds)
        for window in self._windows:
            self._acceptance.note(window.guesses, tokens)
        self._acceptance.forget(len(tokens))
        self._windows, self._sent = [], Window()
        self.push(tokens)

    def _best(self, drafter: Drafter, most: int) -> Window:
        if not self._cost.known:
            return Window(tuple(islice(drafter.guesses(), 1)))
        stake = self._purse.stake(self._cost.seconds(1))
        return best_window(
            drafter.guesses(), self._acceptance.chance, self._cost, most=most, stake=stake
        )

    def _fixed(self, drafter: Drafter, most: int) -> Window:
        guesses = tuple(islice(drafter.guesses(), most))
        chances = [self._acceptance.chance(guess.grade) for guess in guesses[:1]]
        return Window(guesses, len(guesses), sum(chances))
