"""Durations and times on the command line."""

from __future__ import annotations

import pytest
import typer

from swarm.cli import _times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("12h", 43_200),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1.5H", 5400),
    ],
)
def test_durations_are_read(text, seconds):
    assert _times.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "0h", "7 days", "1y", "1e9d", "53w", "७d"])
def test_wrong_durations_are_told(text):
    with pytest.raises(typer.BadParameter, match="duration"):
        _times.duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "no time"),
        (1, "1 second"),
        (90, "90 seconds"),
        (1800, "30 minutes"),
        (86_399.7, "1 day"),
        (100_000, "28 hours"),
        (604_800, "7 days"),
        (-5, "no time"),
    ],
)
def test_spans_are_told_in_one_unit(seconds, words):
    assert _times.span(seconds) == words
