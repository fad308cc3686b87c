"""What keeps a model to its syntax: a grammar of everything that it may write."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm.client import Grammar, Layout
from swarm.errors import RequestError

from ..ask import Tool, ToolChoice, ToolUse
from .literal import letters_of
from .syntax import ID, INDEX, Pairs, Syntax, is_coded, number_of

_PARTS = re.compile("[\ud800-\udfff]|[^\ud800-\udfff]+")
_ID = "[a-zA-Z0-9]{9}"
_SPACES = Grammar.regex(r"\s{0,8}")


@dataclass(frozen=True)
class Constraint:
    """The grammar of a reply that may call tools.

    `is_thinking` says that the prompt ends within a thought. What is not a call is free text, or
    `words` where those are given.
    """

    syntax: Syntax
    tools: Sequence[Tool]
    choice: ToolChoice
    words: Grammar | None = None
    is_thinking: bool = False

    def grammar(self) -> Grammar:
        """Raises `RequestError` for a strict tool whose schema cannot be enforced, and where calls
        could not be told from `words`.
        """
        if self.choice.use is ToolUse.NONE:
            return self._after_thoughts(self.words or self._free())
        if self.choice.use is ToolUse.REQUIRED:
            return self._after_thoughts(self._calls(self._spelled(self.syntax.begin.lstrip())))
        if self.words is not None and not self.syntax.trigger:
            # Its calls are JSON, or lists, themselves; there is no telling which is meant.
            raise RequestError(
                "this model's calls look like answers: tools that may be called do not go together"
                " with a response format"
            )
        if self.words is not None or not self.syntax.trigger:
            calls = self._calls(self._spelled(self.syntax.begin.lstrip()))
            return self._after_thoughts(Grammar.choice(calls, self.words or self._free()))
        begin = self.syntax.begin.lstrip().removeprefix(self.syntax.trigger)
        calls = self._calls(Grammar.until(self._trigger()), self._spelled(begin))
        return self._after_thoughts(Grammar.choice(calls, self._free()))

    def _trigger(self) -> str:
        trigger = self.syntax.trigger
        return self._name(trigger) if is_coded(trigger) else trigger

    def _free(self) -> Grammar:
        """Text in which no call begins."""
        if self.syntax.trigger:
            return Grammar.anything(without=self._trigger())
        begin = "".join(
            (r"\s*" if may_space else "") + re.escape(letter).replace("/", r"\/")
            for letter, may_space in letters_of(self.syntax.begin)
        )
        return Grammar.lark(f"start: TEXT\nTEXT: /(?s:.*)/ & ~(/{begin}/ /(?s:.*)/)")

    def _after_thoughts(self, rest: Grammar) -> Grammar:
        """The same behind a thought, which a model may have; in it nothing is forbidden."""
        if self.syntax.thoughts is None:
            return rest
        opening, closing = self.syntax.thoughts
        mark = self._name(closing) if is_coded(closing) else closing
        thought = Grammar.sequence(Grammar.until(mark), _SPACES, rest)
        if self.is_thinking:
            return thought
        return Grammar.choice(rest, Grammar.sequence(self._spelled(opening), thought))

    def _calls(self, *begin: Grammar) -> Grammar:
        wanted = [tool for tool in self.tools if self.choice.name in (None, tool.name)]
        call = Grammar.choice(*map(self._call, wanted))
        parts = [*begin, call]
        if self.syntax.again is not None and self.choice.parallel:
            again = Grammar.sequence(self._spelled(self.syntax.again), call)
            parts.append(Grammar.repeat(again))
        return Grammar.sequence(*parts, self._spelled(self.syntax.end))

    def _call(self, tool: Tool) -> Grammar:
        schema = object_schema(tool)
        syntax = self.syntax
        if syntax.pairs is not None:
            arguments = self._pairs(syntax.pairs, schema, tool.strict)
            return Grammar.sequence(Grammar.literal(tool.name), arguments)
        layout = Layout.COMPACT if syntax.compact else Layout.LINE
        return Grammar.sequence(
            Grammar.literal(tool.name),
            self._spelled(syntax.middle),
            _json(schema, {"type": "object"}, layout, strict=tool.strict),
        )

    def _pairs(self, pairs: Pairs, schema: Mapping[str, Any], strict: bool) -> Grammar:
        """Arguments one by one: the required ones first, in the schema's order."""
        properties = schema.get("properties") or {}
        required = [key for key in properties if key in (schema.get("required") or ())]
        optional = [key for key in properties if key not in required]
        middle, more = self._spelled(self.syntax.middle), self._spelled(pairs.more)
        made = {key: self._pair(pairs, key, schema, strict) for key in properties}
        rest = [Grammar.repeat(Grammar.sequence(more, made[key]), 0, 1) for key in optional]
        if required:
            first, *others = required
            follow = [Grammar.sequence(more, made[key]) for key in others]
            return Grammar.sequence(middle, made[first], *follow, *rest)
        ways = [
            Grammar.sequence(middle, made[key], *rest[at + 1 :]) for at, key in enumerate(optional)
        ]
        return Grammar.choice(self._spelled(pairs.none), *ways)

    def _pair(self, pairs: Pairs, key: str, schema: Mapping[str, Any], strict: bool) -> Grammar:
        held = schema["properties"][key]
        start = self._spelled(key + pairs.key)
        if pairs.raw and isinstance(held, Mapping) and held.get("type") == "string":
            if words := held.get("enum"):
                texts = Grammar.choice(*(Grammar.literal(str(word)) for word in words))
                return Grammar.sequence(start, texts, self._spelled(pairs.end))
            return Grammar.sequence(start, Grammar.until(pairs.end))
        if isinstance(held, Mapping):
            held = {
                **held,
                **{name: schema[name] for name in ("$defs", "definitions") if name in schema},
            }
        value = _json(held, True, Layout.LINE, strict=strict)
        return Grammar.sequence(start, value, self._spelled(pairs.end))

    def _spelled(self, text: str) -> Grammar:
        """A coded text as a grammar."""
        parts = []
        for part in _PARTS.findall(text):
            if part == ID:
                parts.append(Grammar.regex(_ID))
            elif part == INDEX:
                parts.append(Grammar.regex("[0-9]{1,3}"))
            elif is_coded(part):
                parts.append(Grammar.marker(self._name(part)))
            else:
                parts.append(Grammar.literal(part))
        return parts[0] if len(parts) == 1 else Grammar.sequence(*parts)

    def _name(self, letter: str) -> str:
        return self.syntax.special[number_of(letter)]


def object_schema(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, which are always an object. Raises `RequestError`."""
    schema = dict(tool.parameters)
    if schema.setdefault("type", "object") != "object":
        raise RequestError(f"the parameters of {tool.name} are to be an object")
    return schema


def _json(schema: Any, otherwise: Any, layout: Layout, *, strict: bool) -> Grammar:
    """JSON by a schema; by one that says less if this says what no grammar can hold."""
    try:
        return Grammar.json_schema(schema, layout)
    except RequestError:
        if strict:
            raise
        return Grammar.json_schema(otherwise, layout)
