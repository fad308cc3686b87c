from __future__ import annotations

import random
from itertools import islice

from swarm.client.speculation.edits import Edits
from swarm.client.speculation.suffixes import Suffixes

SOURCE = "for row in rows : out . append ( row ) # rows done ; if not rows : return None"


class Follower:
    """Edits over a text of words."""

    def __init__(self, text: str = "") -> None:
        self.suffixes = Suffixes()
        self.edits = Edits(self.suffixes)
        self._words: list[str] = []
        self.push(text)

    def push(self, text: str) -> Follower:
        for word in text.split():
            if word not in self._words:
                self._words.append(word)
            self.suffixes.push(self._words.index(word))
            self.edits.push(self._words.index(word))
        return self

    def guessed(self, most: int) -> str:
        guesses = islice(self.edits.guesses(), most)
        return " ".join(self._words[guess.token] for guess in guesses)


def test_a_passage_goes_on_behind_a_replaced_word() -> None:
    follower = Follower(SOURCE).push("| for row in rows : OUT")
    assert follower.guessed(3) == ". append ("


def test_a_passage_goes_on_behind_something_left_out() -> None:
    assert Follower(SOURCE).push("| for row in rows : append").guessed(3) == "( row )"


def test_a_passage_goes_on_behind_something_put_in() -> None:
    follower = Follower(SOURCE).push("| for row in rows : my own out .")
    assert follower.guessed(3) == "append ( row"


def test_a_replacement_is_expected_wherever_the_replaced_comes() -> None:
    follower = Follower(SOURCE).push(
        "| for row in rows : out . append ( row ) # all lines done ; if"
    )
    assert follower.guessed(6) == "not all lines : return None"
    assert follower.push("not all").guessed(4) == "lines : return None", "also from within it"


def test_a_replacement_that_does_not_come_is_not_expected_again() -> None:
    source = SOURCE + " ; or rows = [ ]"
    follower = Follower(source).push(
        "| for row in rows : out . append ( row ) # lines done ; if not"
    )
    assert follower.guessed(2) == "lines :"
    assert follower.push("rows").guessed(6) == ": return None ; or rows"


def test_without_a_passage_nothing_is_guessed() -> None:
    assert Follower("a b c d e f g").guessed(3) == ""
    follower = Follower(SOURCE).push("| for row in rows :")
    assert follower.guessed(1) == "out"
    assert follower.push("A B C D E F G H I J K L M N").guessed(3) == "", "it has left the passage"


def test_guesses_are_surer_the_longer_the_copy_has_agreed() -> None:
    follower = Follower(SOURCE).push("| for row in rows : OUT .")
    chances = [guess.grade.chance for guess in islice(follower.edits.guesses(), 12)]
    assert chances == sorted(chances) and chances[0] < chances[-1]


def test_any_text_in_any_pieces_is_borne() -> None:
    for seed in range(300):
        draw, follower, text = random.Random(seed), Follower(), ["a"]
        words = "abcdefgh"[: draw.choice([1, 2, 3, 8])]
        for _ in range(20):
            start = draw.randrange(len(text))
            piece = text[start : start + draw.randrange(1, 12)]
            piece[draw.randrange(len(piece))] = draw.choice(words)
            follower.push(" ".join(piece))
            text += piece
            assert set(follower.guessed(30).split()) <= set(text)
