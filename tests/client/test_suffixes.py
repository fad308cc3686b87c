from __future__ import annotations

import random

from swarm.client.speculation.suffixes import Suffixes


def longest_before(text: list[int]) -> tuple[int, list[int]]:
    """The longest end of `text` that occurs before, and where its occurrences end; by trying."""
    size = len(text)
    for length in range(size - 1, 0, -1):
        ends = [at for at in range(length, size) if text[at - length : at] == text[size - length :]]
        if ends:
            return length, ends
    return 0, []


def test_the_longest_repeated_end_and_its_newest_occurrence_are_found() -> None:
    draw = random.Random(0)
    for _ in range(150):
        suffixes, text, variety = Suffixes(), [], draw.choice([1, 2, 3, 8])
        for _ in range(50):
            text.append(draw.randrange(variety))
            suffixes.push(text[-1])
            length, ends = longest_before(text)
            assert suffixes.match_len == length, text
            assert not length or suffixes.match_end == ends[-1], text
        assert suffixes.text == text


def test_a_long_text_takes_a_bounded_number_of_states() -> None:
    """Linear, however often it repeats itself: at most two states for a token."""
    for variety in (1, 2, 50):
        draw, suffixes = random.Random(1), Suffixes()
        for _ in range(3000):
            suffixes.push(draw.randrange(variety))
        assert len(suffixes._len) <= 2 * 3000
