"""What people write stays text: names of control tokens in it are cut in two.

A chat template puts contents and control tokens into one string, and a tokenizer that reads it
cannot tell a `<|im_end|>` that somebody wrote from one that ends a message. So each such name in a
content gets a cut after its first letter, a character that nobody has used, before the template
sees it; and the string is tokenized in the parts between the cuts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from swarm.errors import RequestError

_UNASSIGNED = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""Characters that are none, so that no text has a use for them."""

_ENOUGH = 64
"""Letters of a name by which it is known; that is as deep as its pattern nests."""


def unused(value: Any) -> str:
    """A character that stands nowhere in it. Raises `RequestError` if all that it could be do."""
    used: set[str] = set()
    for text in _texts(value):
        if not text.isascii():
            used.update(letter for letter in _UNASSIGNED if letter in text)
    free = next((letter for letter in _UNASSIGNED if letter not in used), None)
    if free is None:
        raise RequestError("the conversation holds all characters that Unicode leaves unassigned")
    return free


class Cutter:
    """Cuts these names, wherever one begins; in time that follows from the text alone."""

    def __init__(self, names: Iterable[str]) -> None:
        heads = sorted({name[:_ENOUGH] for name in names if len(name) > 1})
        firsts = groupby(heads, lambda head: head[0])
        branches = [
            f"{re.escape(first)}(?={_pattern([head[1:] for head in group])})"
            for first, group in firsts
        ]
        self._pattern = re.compile("|".join(branches)) if branches else None

    def cut(self, value: Any, letter: str) -> Any:
        """The same JSON value, with the cuts in all of its texts, also in keys."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self._pattern.sub(rf"\g<0>{letter}", value)
        if isinstance(value, Mapping):
            return {self.cut(key, letter): self.cut(each, letter) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.cut(each, letter) for each in value]
        return value


def _pattern(words: list[str]) -> str:
    """What begins with one of some sorted words, as a tree: no letter is looked at twice."""
    if words[0] == "":
        return ""
    branches = [
        re.escape(first) + _pattern([word[1:] for word in group])
        for first, group in groupby(words, lambda word: word[0])
    ]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(key)
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
