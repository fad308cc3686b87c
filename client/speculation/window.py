"""How many guesses to send along with the next token: policy alone, without torch or clock.

A window of `k` guesses, of which the i-th comes true with the chance p(i) once those before it
have, brings `1 + p(1) + p(1)p(2) + …` tokens and costs what a step of `1 + k` rows costs. The
window with the most tokens per second is the right one, which may be none. A long round trip makes
rows look cheap, and so windows large; a busy peer, or a text that nobody can guess, makes them
small.

Estimates err, at first above all. So there is a purse: a window may stake what windows have saved
so far, one step, and a small part of the time that has gone by. However the estimates err, a reply
takes hardly longer than it would without guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .cost import StepCost
from .guess import Grade, Guess

MARGIN = 1.03
"""So many times as fast as no window must a window promise to be."""

_HOPELESS = 0.02
"""The chance that all guesses up to here come true, below which no more are looked at."""

_ALLOWANCE = 0.015
"""Part of the time gone by that windows may lose on the whole, above one step."""

_MOST_SAVED = 16
"""Steps' worth of savings that count, so that a text's good times do not pay for its bad ones."""


@dataclass(frozen=True)
class Window:
    """The guesses that were looked at, how many of them to send, and tokens per second expected."""

    guesses: tuple[Guess, ...] = ()
    size: int = 0
    rate: float = 0.0

    @property
    def tokens(self) -> list[int]:
        """What is sent."""
        return [guess.token for guess in self.guesses[: self.size]]


class Purse:
    """What windows have saved and lost, in seconds, and what may be staked."""

    def __init__(self) -> None:
        self._saved = 0.0
        self._elapsed = 0.0

    def note(self, seconds: float, num_tokens: int, plain: float) -> None:
        """A step with a window has brought tokens, each of which would else have taken `plain`."""
        self._elapsed += seconds
        self._saved = min(self._saved + num_tokens * plain - seconds, _MOST_SAVED * plain)

    def pass_time(self, seconds: float) -> None:
        """A step without a window."""
        self._elapsed += seconds

    def stake(self, plain: float) -> float:
        """The most that the next window may lose, where a step takes `plain`."""
        return self._saved + _ALLOWANCE * self._elapsed + plain


def best_window(
    guesses: Iterable[Guess],
    chance: Callable[[Grade], float],
    cost: StepCost,
    *,
    most: int,
    stake: float,
    each: float = 0.0,
) -> Window:
    """The window of at most `most` guesses that promises most.

    A guess takes `each` seconds to be made. `guesses` are drawn only as far as more of them could
    be worth it, the first one always: something is to be learned from it.
    """
    plain = cost.seconds(1)
    looked: list[Guess] = []
    size, best = 0, MARGIN / plain
    expected = chain = 1.0
    seconds = plain
    for guess in guesses:
        looked.append(guess)
        count = len(looked)
        chain *= chance(guess.grade)
        expected, before = expected + chain, seconds
        seconds = cost.seconds(1 + count) + count * each
        if count > most or seconds - plain > stake:
            break
        if expected / seconds > best:
            size, best = count, expected / seconds
        # The cost being linear, a next guess that were sure to follow would add no more than this.
        if chain < max(_HOPELESS, best * (seconds - before)):
            break
    return Window(tuple(looked), size, best if size else 1 / plain)
