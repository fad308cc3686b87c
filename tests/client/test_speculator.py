from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from swarm.client.speculation import SpeculationConfig, quick_drafters
from swarm.client.speculation.guess import Grade, Guess
from swarm.client.speculation.speculator import Speculator
from swarm.errors import ConfigError

ROUND_TRIP, PER_ROW = 0.1, 0.001


@dataclass
class Knowing:
    """Knows the whole text, and says something else at every position that `errs` divides."""

    text: Sequence[int]
    errs: int = 1000
    seconds: float = 0.0
    num_made: int = 0
    num_prepared: int = 0
    _length: int = field(default=0, init=False)

    def push(self, token: int) -> None:
        assert token == self.text[self._length]
        self._length += 1

    def prepare(self) -> None:
        self.num_prepared += 1

    def guesses(self) -> Iterator[Guess]:
        for at in range(self._length, len(self.text)):
            self.num_made += 1
            yield Guess(-1 if at % self.errs == 0 else self.text[at], Grade("knowing", 0, 0.6))


@dataclass
class Outcome:
    """What a whole text has taken. `seconds` are those of the steps alone."""

    seconds: float = 0.0
    windows: list[int] = field(default_factory=list)


async def prepared() -> None:
    """Returns when the default executor's threads have done their work."""
    for _ in range(3):
        await asyncio.to_thread(lambda: None)


async def write(
    speculator: Speculator,
    text: Sequence[int],
    *,
    prompt_len: int = 1,
    fixed: float = ROUND_TRIP,
    per_row: float = PER_ROW,
) -> Outcome:
    """Has the speculator guess its way through `text`, each step costing what its rows cost."""
    outcome = Outcome()
    speculator.push(text[:prompt_len])
    speculator.prepare()
    await prepared()
    speculator.expect(per_row)
    at = prompt_len
    while at < len(text):
        drafts = await speculator.draft(len(text) - at - 1)
        agreed = 0
        while agreed < len(drafts) and drafts[agreed] == text[at + agreed]:
            agreed += 1
        seconds = fixed + per_row * (1 + len(drafts))
        speculator.note(text[at : at + agreed + 1], seconds)
        outcome.seconds += seconds
        outcome.windows.append(len(drafts))
        at += agreed + 1
    return outcome


def plain_seconds(num_tokens: int, fixed: float = ROUND_TRIP) -> float:
    return num_tokens * (fixed + PER_ROW)


def scattered(count: int) -> list[int]:
    """Tokens in which nothing that has been says what comes, though single ones come again."""
    found, state = [], 12345
    for _ in range(count):
        state = (1103515245 * state + 12345) % (1 << 31)
        found.append((state >> 16) % 50)
    return found


async def test_a_copy_is_written_many_tokens_at_a_time() -> None:
    passage = list(range(100, 300))
    text = [*passage, 1, 2, 3, *passage]
    outcome = await write(
        Speculator(SpeculationConfig(), quick_drafters()), text, prompt_len=len(passage) + 3
    )
    assert outcome.seconds < plain_seconds(len(passage)) / 8
    assert sum(outcome.windows) < 1.5 * len(passage)


async def test_a_text_that_nobody_can_guess_takes_hardly_longer() -> None:
    """Neither with cheap rows nor with dear ones, nor where the peers announced too little."""
    for fixed, per_row in [(0.1, 0.001), (0.02, 0.001), (0.01, 0.01)]:
        text = scattered(400)
        speculator = Speculator(SpeculationConfig(), [*quick_drafters(), Knowing(text, errs=1)])
        outcome = await write(speculator, text, fixed=fixed, per_row=per_row)
        assert outcome.seconds < 399 * (fixed + per_row) / 0.97


async def test_windows_close_when_a_text_ceases_to_be_guessable() -> None:
    text = scattered(600)
    drafter = Knowing(text)
    speculator = Speculator(SpeculationConfig(), [drafter])
    speculator.push(text[:1])
    speculator.expect(0.02)
    sizes = []
    at = 1
    while at < 590:
        drafter.errs = 1000 if at < 300 else 1
        drafts = await speculator.draft(8)
        agreed = len(drafts) if at < 300 else 0
        speculator.note(text[at : at + agreed + 1], 0.1 + 0.02 * len(drafts))
        sizes.append((at, len(drafts)))
        at += agreed + 1
    assert max(size for at, size in sizes if at < 300) > 3
    assert sum(size > 0 for at, size in sizes if at > 330) < 40


async def test_off_asks_nobody() -> None:
    text = list(range(10))
    drafter = Knowing(text)
    outcome = await write(Speculator(SpeculationConfig(0), [drafter], drafter), text)
    assert not any(outcome.windows) and not drafter.num_made and not drafter.num_prepared


async def test_a_fixed_window_is_sent_whatever_comes_of_it() -> None:
    text = scattered(60)
    outcome = await write(Speculator(SpeculationConfig(3), [Knowing(text, errs=1)]), text)
    assert set(outcome.windows[:-3]) == {3} and len(outcome.windows) == 59
    assert outcome.windows[-1] == 0, "no room for more than the last token"


async def test_what_a_step_cost_counts_only_where_nothing_disturbed_it() -> None:
    text = scattered(50)
    speculator = Speculator(SpeculationConfig(), [Knowing(text)])
    speculator.push(text[:1])
    assert await speculator.draft(20) == [], "nothing is known of what steps cost"
    speculator.note(text[1:2], None)
    assert await speculator.draft(20) == []
    speculator.note(text[2:3], 0.1)
    assert await speculator.draft(20) != []


async def test_a_slow_drafter_is_asked_where_it_pays() -> None:
    text = scattered(300)
    slow = Knowing(text, seconds=0.001)
    speculator = Speculator(SpeculationConfig(), quick_drafters(), slow)
    outcome = await write(speculator, text)
    assert slow.num_prepared == 1
    assert outcome.seconds < plain_seconds(300) / 4
    slow = Knowing(text, seconds=5.0)
    await write(Speculator(SpeculationConfig(), quick_drafters(), slow), text)
    assert slow.num_made == 0


async def test_a_slow_drafter_that_is_wrong_is_soon_left_alone() -> None:
    text = scattered(300)
    slow = Knowing(text, errs=1, seconds=0.001)
    outcome = await write(Speculator(SpeculationConfig(), (), slow), text, per_row=0.02)
    assert 0 < sum(size > 0 for size in outcome.windows) < 30, "now and then it is tried again"
    assert outcome.seconds < 299 * 0.12 / 0.97


async def test_a_slow_drafters_failure_is_not_hidden() -> None:
    class Failing(Knowing):
        def prepare(self) -> None:
            raise MemoryError("too much")

    text = scattered(20)
    speculator = Speculator(SpeculationConfig(), (), Failing(text))
    speculator.push(text[:1])
    speculator.prepare()
    await prepared()
    with pytest.raises(MemoryError):
        await speculator.draft(5)


def test_options_are_read_and_checked() -> None:
    assert SpeculationConfig.parse("auto") == SpeculationConfig() and SpeculationConfig().wanted
    assert not SpeculationConfig.parse("off").wanted and not SpeculationConfig.parse("0").wanted
    assert SpeculationConfig.parse("7").window == 7
    for text in ("-1", "64", "some", ""):
        with pytest.raises(ConfigError):
            SpeculationConfig.parse(text)
