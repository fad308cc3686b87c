from __future__ import annotations

from itertools import islice

from swarm.client.speculation.lookup import Lookup
from swarm.client.speculation.suffixes import Suffixes


def lookup(text: str) -> Lookup:
    found = Lookup(Suffixes())
    for letter in text:
        found.push(ord(letter))
    return found


def guessed(text: str, most: int) -> str:
    return "".join(chr(guess.token) for guess in islice(lookup(text).guesses(), most))


def test_what_followed_the_longest_repeated_end_is_guessed() -> None:
    assert guessed("the cat sat. a cat ran. the cat", 5) == " sat."


def test_of_equally_long_ends_the_newest_counts() -> None:
    assert guessed("ab1 ab2 ab", 1) == "2"


def test_a_text_without_repetition_suggests_nothing() -> None:
    assert guessed("abcdef", 5) == "" and guessed("", 5) == ""


def test_what_repeats_itself_is_guessed_beyond_its_end() -> None:
    assert guessed("xyz, xyz, ", 12) == "xyz, xyz, xy"


def test_a_longer_match_promises_more_and_each_guess_that_comes_true_lengthens_it() -> None:
    grades = [guess.grade for guess in islice(lookup("abcdefghij ab").guesses(), 9)]
    chances = [grade.chance for grade in grades]
    assert chances == sorted(chances) and chances[0] < chances[-1]
    (longer,) = islice(lookup("abcdefghij abcd").guesses(), 1)
    assert longer.grade == grades[2], "a match of 4, at once or after two guesses"
