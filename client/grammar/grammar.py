"""What a reply may look like, as a value: said once, compiled for each model that is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from swarm.errors import RequestError

from .layout import Layout
from .schema import checked

MAX_CHARS = 1 << 20
"""Characters of one grammar with all its parts: more would take seconds to read."""

MAX_PARTS = 4096
"""Parts within parts of one grammar."""

MAX_DEPTH = 64
"""How deep parts may lie within parts."""


class Kind(StrEnum):
    """What a grammar is made of."""

    LITERAL = "literal"
    MARKER = "marker"
    REGEX = "regex"
    JSON = "json"
    LARK = "lark"
    TEXT = "text"
    UNTIL = "until"
    SEQUENCE = "sequence"
    CHOICE = "choice"
    REPEAT = "repeat"


@dataclass(frozen=True)
class Grammar:
    """A set of texts, one of which a reply has to be. Made by the methods below.

    `text` is what the kind needs to be told, `parts` are grammars within it; a repetition has its
    bounds in `least` and `most`.
    """

    kind: Kind
    text: str = ""
    parts: tuple[Grammar, ...] = ()
    least: int = 0
    most: int | None = None

    def __post_init__(self) -> None:
        size, count, depth = 0, 0, 0
        level: tuple[Grammar, ...] = (self,)
        while level:
            size += sum(len(each.text) for each in level)
            count, depth = count + len(level), depth + 1
            if size > MAX_CHARS or count > MAX_PARTS or depth > MAX_DEPTH:
                raise RequestError(
                    f"a grammar has at most {MAX_CHARS} characters in {MAX_PARTS} parts,"
                    f" {MAX_DEPTH} deep"
                )
            level = tuple(part for each in level for part in each.parts)

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema whose values these texts are, and None where they are no such texts."""
        if self.kind is not Kind.JSON:
            return None
        schema: dict[str, Any] = json.loads(self.text)
        schema.pop("x-guidance", None)
        return schema

    @property
    def num_chars(self) -> int:
        """Characters of this grammar and all its parts."""
        return len(self.text) + sum(part.num_chars for part in self.parts)

    def walk(self) -> Iterator[Grammar]:
        """This grammar and all its parts, each as often as it occurs."""
        yield self
        for part in self.parts:
            yield from part.walk()

    @classmethod
    def json_object(cls, layout: Layout = Layout.LINE) -> Grammar:
        """Any JSON object."""
        return cls.json_schema({"type": "object"}, layout)

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | bool, layout: Layout = Layout.LINE) -> Grammar:
        """JSON that a schema (draft 2020-12) allows, properties in the schema's order.

        Raises `RequestError` for whatever of it could not be enforced, and says where it stands.
        """
        held = checked(schema)
        held["x-guidance"] = layout.options
        return cls(Kind.JSON, json.dumps(held))

    @classmethod
    def regex(cls, pattern: str) -> Grammar:
        """Text that matches as a whole; Rust's syntax, so without look-around."""
        return cls(Kind.REGEX, pattern)

    @classmethod
    def lark(cls, text: str) -> Grammar:
        """A context-free grammar in llguidance's dialect of Lark, which begins at `start`.

        It may hold `%json { … }`, and special tokens by name, `<|call|>`. Whatever this class makes
        could be said so. It is for programs, never for what a stranger wrote: what it takes is
        limited, but for intersections (`&`) of regular expressions, whose time doubles with each.
        """
        return cls(Kind.LARK, text)

    @classmethod
    def literal(cls, text: str) -> Grammar:
        """Just this text, in ordinary tokens."""
        return cls(Kind.LITERAL, text)

    @classmethod
    def marker(cls, text: str) -> Grammar:
        """The special token of this name, or where the model has none, this text."""
        return cls(Kind.MARKER, text)

    @classmethod
    def anything(cls, *, without: str = "") -> Grammar:
        """Any text, also none, without special tokens; nowhere in it stands `without`."""
        return cls(Kind.TEXT, without)

    @classmethod
    def until(cls, marker: str) -> Grammar:
        """Any text up to and with the first `marker`: a special token, or a text."""
        if not marker:
            raise RequestError("text needs a marker to end at")
        return cls(Kind.UNTIL, marker)

    @classmethod
    def sequence(cls, *parts: Grammar) -> Grammar:
        """One after the other."""
        return cls(Kind.SEQUENCE, parts=parts)

    @classmethod
    def choice(cls, *parts: Grammar) -> Grammar:
        """One of them."""
        if not parts:
            raise RequestError("there is nothing to choose from")
        return cls(Kind.CHOICE, parts=parts)

    @classmethod
    def repeat(cls, part: Grammar, least: int = 0, most: int | None = None) -> Grammar:
        """The same several times: `least` or more, at most `most`."""
        if least < 0 or (most is not None and most < max(1, least)):
            raise RequestError(f"nothing can be repeated {least} to {most} times")
        return cls(Kind.REPEAT, parts=(part,), least=least, most=most)

    @classmethod
    def calls(
        cls, trigger: str, then: Grammar, *, least: int = 0, most: int | None = None
    ) -> Grammar:
        """Free text in which each `trigger` is followed by `then`, and text may go on behind it.

        With `least` there are so many at least, with `most` none may follow those.
        """
        call = cls.sequence(cls.until(trigger), then)
        return cls.sequence(cls.repeat(call, least, most), cls.anything(without=trigger))
