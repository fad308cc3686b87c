"""How a model writes calls of tools.

Texts here are *coded*: a special token is one letter that no decoded text can hold, a lone
surrogate. So a model that writes a token's name, letter by letter, has not written the token. Two
more such letters stand for what differs from call to call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

ID = "\udfff"
"""In a coded text: the call's id."""

INDEX = "\udffe"
"""In a coded text: a number that counts calls."""

_SIGN = re.compile(r'(?!\{|\[(?:$|[\s{"]))(?:(?!\[?\{)[^\ud800-\udfff])+')
"""The beginning of a call up to JSON: what JSON, or a list, could begin with is no sign of one."""

_FIRST = 0xD800
_MOST = 0x400


class Ids(Enum):
    """What a template takes as a call's id."""

    ANY = "any"
    NINE = "nine"
    """Nine letters and digits."""
    NAMED = "named"
    """`functions.NAME:INDEX`: the id tells the name."""


@dataclass(frozen=True)
class Pairs:
    """Arguments that are written one by one, not as a JSON object.

    `key` stands between a key and its value, `end` behind each value, `more` between that and the
    next key. `none` stands behind a name if there are no arguments. Where `raw`, texts are written
    as they are, else as JSON; all else is JSON.
    """

    key: str
    end: str
    more: str
    none: str
    raw: bool


@dataclass(frozen=True)
class Syntax:
    """What stands around names and arguments.

    `begin` up to the first name, `middle` between a name and its arguments (or the first key),
    `again` from there to the next call's name (None if one call is all that a message has), `end`
    behind the last one. Some models also write one of `variants` for `middle`. `thoughts` begin and
    end with the two. With `words`, a special token, words begin in replies where each other special
    token begins something else. `special` are the names of the special tokens, by their code.
    """

    begin: str
    middle: str
    end: str
    again: str | None = None
    pairs: Pairs | None = None
    compact: bool = False
    variants: tuple[str, ...] = ()
    thoughts: tuple[str, str] | None = None
    words: str = ""
    special: tuple[str, ...] = ()

    @property
    def trigger(self) -> str:
        """With what calls begin, wherever they stand; empty if only a place tells them from text:
        a JSON object that is the whole message.
        """
        word, *_ = self.begin.split() or [""]
        if is_coded(word[:1]):
            return word[0]
        found = _SIGN.match(word)
        return found[0] if found else ""

    @property
    def is_framed(self) -> bool:
        """Whether several calls share a frame, as a list's brackets."""
        return self.again is not None and not self.again.startswith(self.end)


def is_coded(letter: str) -> bool:
    """Whether this is a letter, and stands for a special token."""
    return len(letter) == 1 and _FIRST <= ord(letter) < _FIRST + _MOST


class Code:
    """Codes the special tokens that occur in some texts; `known` ones have codes already."""

    def __init__(self, special: frozenset[str], known: Sequence[str] = ()) -> None:
        self._special = sorted(special, key=len, reverse=True)
        self.names = list(known)

    def code(self, text: str) -> str:
        """The same text with a letter for each special token."""
        for name in self._special:
            if name in text and len(self.names) < _MOST:
                if name not in self.names:
                    self.names.append(name)
                text = text.replace(name, letter_of(self.names.index(name)))
        return text


def letter_of(number: int) -> str:
    """The letter that stands for special token number `number` of a syntax."""
    return chr(_FIRST + number)


def number_of(letter: str) -> int:
    """The opposite of `letter_of`."""
    return ord(letter) - _FIRST


PLAIN = Syntax(
    begin='<tool_call>\n{"name": "',
    middle='", "arguments": ',
    end="}\n</tool_call>",
    again='}\n</tool_call>\n<tool_call>\n{"name": "',
)
"""How models are asked to write calls that have not been taught any other way."""
