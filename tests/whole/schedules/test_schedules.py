"""X1, X3, X4, X6, X9, X10: whatever happens when, the tokens are transformers' own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from drawing import THEMES
from hypothesis import given, settings
from schedule import Schedule
from seeds import SEEDS

NUM_SCHEDULES = 2000
"""At least so many are played, of all themes together, where nobody asks for fewer."""

Play = Callable[[Schedule], None]


@pytest.mark.parametrize("name", SEEDS)
def test_what_failed_once(name: str, play: Play) -> None:
    play(SEEDS[name])


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.timeout(900)
def test_tokens_are_the_undisturbed_ones(
    theme: str, play: Play, profile: settings, num_played: Callable[[], int]
) -> None:
    """Nor does a reply hang, or anything of a session stay, or an error go to the log."""
    before = num_played()

    @profile
    @given(THEMES[theme])
    def try_out(schedule: Schedule) -> None:
        play(schedule)

    try_out()
    enough = min(profile.max_examples, NUM_SCHEDULES // len(THEMES))
    assert num_played() - before >= enough
