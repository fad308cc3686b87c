"""A grammar in the words of llguidance's Lark, for one model's special tokens."""

from __future__ import annotations

import json
from collections.abc import Callable

from .grammar import Grammar, Kind

_ANY = "/(?s:.*)/"


class Writer:
    """Writes rules; grammars that are equal share one.

    `special` knows the id of a special token by its name.
    """

    def __init__(self, special: Callable[[str], int | None]) -> None:
        self._special = special
        self._names: dict[Grammar, str] = {}
        self._rules: list[str] = []
        self._others: list[dict[str, str]] = []

    def write(self, grammar: Grammar) -> str:
        """What the library takes: a list of Lark grammars as JSON, the first of which counts."""
        if grammar.kind is Kind.LARK:
            return json.dumps({"grammars": [{"lark_grammar": grammar.text}]})
        start = f"start: {self._name(grammar)}"
        main = {"name": "main", "lark_grammar": "\n".join([start, *self._rules])}
        return json.dumps({"grammars": [main, *self._others]})

    def _name(self, grammar: Grammar) -> str:
        if grammar not in self._names:
            number = len(self._names)
            name = self._names[grammar] = f"r{number}"
            self._rules.append(self._rule(grammar, name, f"T{number}"))
        return self._names[grammar]

    def _rule(self, grammar: Grammar, name: str, terminal: str) -> str:
        """A rule; one that needs a regular expression of its own calls it `terminal`."""
        text = grammar.text
        names = [self._name(part) for part in grammar.parts]
        match grammar.kind:
            case Kind.LITERAL:
                return f"{name}: {_quoted(text)}"
            case Kind.MARKER:
                return f"{name}: {self._marker(text)}"
            case Kind.JSON:
                return f"{name}: %json {text}"
            case Kind.TEXT:
                return f"{name}: {terminal}\n{terminal}: {self._anything(text)}"
            case Kind.UNTIL if self._special(text) is None:
                # Lazy: it ends where the marker has come for the first time.
                return f"{name}[lazy]: {terminal}\n{terminal}: {_ANY} {_quoted(text)}"
            case Kind.UNTIL:
                return f"{name}: {terminal} {self._marker(text)}\n{terminal}: {_ANY}"
            case Kind.REGEX:
                return f"{name}: {terminal}\n{terminal}: {_regex(text)}"
            case Kind.LARK:
                self._others.append({"name": f"{name}_part", "lark_grammar": text})
                return f"{name}: @{name}_part"
            case Kind.SEQUENCE:
                return f"{name}: {' '.join(names) or _quoted('')}"
            case Kind.CHOICE:
                return f"{name}: {' | '.join(names)}"
            case Kind.REPEAT:
                most = "" if grammar.most is None else grammar.most
                return f"{name}: {names[0]}{{{grammar.least},{most}}}"

    def _marker(self, text: str) -> str:
        token = self._special(text)
        return _quoted(text) if token is None else f"<[{token}]>"

    def _anything(self, without: str) -> str:
        if not without or self._special(without) is not None:
            return _ANY  # which holds no special token anyway
        return f"{_ANY} & ~({_ANY} {_quoted(without)} {_ANY})"


def _regex(pattern: str) -> str:
    from llguidance import LLMatcher

    held = json.loads(LLMatcher.grammar_from_regex(pattern))
    text: str = held["grammars"][0]["lark_grammar"]
    return text.removeprefix("start: ")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
