"""Finding out from a chat template how its model writes calls.

A template that knows tools says how the model's own calls look, as it has to write those of
earlier turns. So it is given a call with a name and arguments that are known, and what stands
around them is the syntax; a second and a third call show what stands between calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from swarm.client import ChatTemplate, TemplateError

from .syntax import ID, INDEX, Code, Ids, Pairs, Syntax, is_coded

_NAME = "probe_function"
_SAID = "Probed"
_IDS = ("probe1abc", "probe2abc", "probe3abc")
_USER = {"role": "user", "content": "Probe?"}
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "A probe.",
        "parameters": {
            "type": "object",
            "properties": {"alpha": {"type": "string"}, "gamma": {"type": "string"}},
            "required": [],
        },
    },
}
_TEXTS = {"alpha": "beta", "gamma": "delta"}
_NUMBERS = {"alpha": 17, "gamma": 18}
_NESTED = {"alpha": [1, {"b": None}], "gamma": 'a"b'}

_VARIANTS = (" <|constrain|>json<|message|>",)
"""What models write between a name and arguments that their template writes in another order:
gpt-oss, whose recipient may stand behind the channel."""


@dataclass(frozen=True)
class Found:
    """A syntax, and how calls of earlier turns are given to the template: their ids, and whether
    arguments are objects or JSON texts.
    """

    syntax: Syntax
    ids: Ids = Ids.ANY
    as_text: bool = False

    def given(
        self, call_id: str, name: str, arguments: Mapping[str, Any], index: int
    ) -> dict[str, Any]:
        """A call as the template takes it, the conversation's number `index`."""
        if self.ids is Ids.NAMED:
            call_id = f"functions.{name}:{index}"
        held = json.dumps(arguments, ensure_ascii=False) if self.as_text else arguments
        return {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": held},
        }


def discover(template: ChatTemplate, special: frozenset[str], ends: frozenset[str]) -> Found | None:
    """How the model writes calls, or None where its template does not tell.

    `special` are the names of its special tokens, `ends` of those that end a reply. Takes some
    renderings of short conversations.
    """
    for ids in (Ids.ANY, Ids.NAMED):
        for as_text in (False, True):
            probe = _Probe(template, Code(special), ends, ids, as_text)
            try:
                syntax = probe.syntax()
            except (TemplateError, _Hidden):
                continue
            return Found(probe.framed(syntax), _ids(probe), as_text)
    return None


class _Hidden(Exception):
    """What was given does not show, or not in order."""


def _ids(probe: _Probe) -> Ids:
    if probe.ids is Ids.NAMED:
        return Ids.NAMED
    try:
        probe.render([_TEXTS], ["call_" + "0a" * 12])
    except TemplateError:
        return Ids.NINE
    return Ids.ANY


class _Probe:
    def __init__(
        self, template: ChatTemplate, code: Code, ends: frozenset[str], ids: Ids, as_text: bool
    ) -> None:
        self._template = template
        self._code = code
        self._ends = ends
        self._as_text = as_text
        self.ids = ids

    def syntax(self) -> Syntax:
        try:
            return self._object()
        except _Hidden:
            return self._listed()

    def render(self, calls: Sequence[Mapping[str, Any]], ids: Sequence[str] = _IDS) -> str:
        """What of a message with these calls is theirs."""
        made = [
            {
                "id": f"functions.{_NAME}:{index}" if self.ids is Ids.NAMED else ids[index],
                "type": "function",
                "function": {
                    "name": _NAME,
                    "arguments": json.dumps(each) if self._as_text else each,
                },
            }
            for index, each in enumerate(calls)
        ]
        said = self._rendered({"content": _SAID})
        before, _, after = said.rpartition(_SAID)
        text = self._rendered({"content": "", "tool_calls": made})
        start = _shared(before, text)
        return self._without_end(text[start:], after)

    def framed(self, syntax: Syntax) -> Syntax:
        """The same, with what stands between the question and the words of a reply."""
        talk = [_USER, {"role": "assistant", "content": _SAID}]
        asked = self._code.code(self._template.render(talk[:1]))
        said = self._code.code(self._template.render(talk, asking=False)).rpartition(_SAID)[0]
        marks = [letter for letter in said[_shared(asked, said) :] if is_coded(letter)]
        if not marks:
            return syntax
        variants = [self._code.code(each) for each in _VARIANTS]
        return replace(
            syntax,
            words=marks[-1],
            # Where one of its tokens is unknown, a variant is nothing that this model writes.
            variants=tuple(each for each in variants if "<" not in each),
            special=tuple(self._code.names),
        )

    def _rendered(self, message: Mapping[str, Any]) -> str:
        messages = [_USER, {"role": "assistant", **message}]
        text = self._code.code(self._template.render(messages, [_TOOL], asking=False))
        for each in _IDS:
            text = text.replace(each, ID)
        return text

    def _without_end(self, text: str, after: str) -> str:
        """Without what ends every message: that ends the reply, too, and is not read."""
        stripped = text.removesuffix(after)
        for name in self._ends & set(self._code.names):
            stripped = stripped.partition(self._code.code(name))[0]
        return stripped.rstrip()

    def _object(self) -> Syntax:
        """Arguments as a JSON object."""
        text = self.render([_TEXTS])
        begin, middle, end = _around(text, [_TEXTS])
        middle, again = self._again(_TEXTS, begin, middle, end)
        return Syntax(
            begin=begin,
            middle=middle,
            end=end,
            again=again,
            compact=json.dumps(_TEXTS, separators=(",", ":")) in text,
            special=tuple(self._code.names),
        )

    def _again(
        self, arguments: Mapping[str, Any], begin: str, middle: str, end: str
    ) -> tuple[str, str | None]:
        """What stands before arguments, and between them and the next call's name.

        A template that does not take two calls has taught its model to make one.
        """
        try:
            first, second, one, third, two, _, last = _around(
                self.render([arguments] * 3), [arguments] * 3
            )
        except (TemplateError, _Hidden):
            return middle, None
        if (first, second, last) != (begin, middle, end):
            raise _Hidden
        return _counted(middle, third, 0), _counted(one, two, 1)

    def _listed(self) -> Syntax:
        """Arguments one by one."""
        begin, middle, key, more, other, close = _among(self.render([_NUMBERS]), _NUMBERS)
        _, _, text_key, text_more, _, text_close = _among(self.render([_TEXTS]), _TEXTS)
        quotes = (key + '"', '"' + more, '"' + close)
        raw = (text_key, text_more, text_close) == (key, more, close)
        if other != key or not (raw or (text_key, text_more, text_close) == quotes):
            raise _Hidden
        self._check_nested(key, raw)
        none = _after_name(self.render([{}]))
        at = _value_end(close, none, more)
        middle, again = self._again(_NUMBERS, begin, middle, close)
        if not middle.strip() or not key.strip() or (raw and not close[:at].strip()):
            raise _Hidden
        return Syntax(
            begin=begin,
            middle=middle,
            end=close[at:],
            again=again[at:] if again else None,
            pairs=Pairs(key, close[:at], more[at:], none.removesuffix(close[at:]), raw),
            special=tuple(self._code.names),
        )

    def _check_nested(self, key: str, raw: bool) -> None:
        """Whether arguments within arguments are JSON."""
        text = self.render([_NESTED])
        start = text.find("alpha" + key)
        value, _ = _decoded(text, start + len("alpha" + key))
        inner = _NESTED["gamma"] if raw else json.dumps(_NESTED["gamma"])
        if start < 0 or value != _NESTED["alpha"] or f"gamma{key}{inner}" not in text:
            raise _Hidden


def _around(text: str, calls: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts before, between and after names and arguments, which are JSON objects or pairs."""
    parts, at = [], 0
    for arguments in calls:
        start = text.find(_NAME, at)
        if start < 0:
            raise _Hidden
        parts.append(text[at:start])
        at = start + len(_NAME)
        start, end = _place(text, at, arguments)
        parts.append(text[at:start])
        at = end
    return [*parts, text[at:]]


def _place(text: str, at: int, arguments: Mapping[str, Any]) -> tuple[int, int]:
    """Where these arguments stand: as a JSON object, or from the first key to the last value."""
    start = text.find("{", at)
    while start >= 0:
        value, end = _decoded(text, start)
        if value == arguments:
            return start, end
        start = text.find("{", start + 1)
    if arguments is _NUMBERS:
        first, last = "alpha", str(_NUMBERS["gamma"])
        start, end = text.find(first, at), text.find(last, at)
        if 0 <= start < end:
            return start, end + len(last)
    raise _Hidden


def _decoded(text: str, at: int) -> tuple[Any, int]:
    try:
        return json.JSONDecoder().raw_decode(text, at)
    except ValueError:
        return None, at


def _among(text: str, arguments: Mapping[str, Any]) -> list[str]:
    """The texts before, between and after the name, keys and values of one call."""
    parts, at = [], 0
    for word in (_NAME, *(str(each) for pair in arguments.items() for each in pair)):
        start = text.find(word, at)
        if start < 0:
            raise _Hidden
        parts.append(text[at:start])
        at = start + len(word)
    return [*parts, text[at:]]


def _after_name(text: str) -> str:
    _, name, after = text.partition(_NAME)
    if not name:
        raise _Hidden
    return after


def _value_end(close: str, none: str, more: str) -> int:
    """Where the end of a value ends in what follows the last one.

    What is left also follows a call without arguments; what is taken also follows other values.
    """
    least = len(close) - _shared(close[::-1], none[::-1])
    most = _shared(close, more)
    if least > most:
        raise _Hidden
    whole = (at for at in range(least, most + 1) if close[:at].endswith((">", "]", "}")))
    return next(whole, least)


def _counted(one: str, other: str, number: int) -> str:
    """Two texts that are the same, but for a number that goes up by one from `number`."""
    if one == other:
        return one
    start = _shared(one, other)
    behind = _shared(one[start:][::-1], other[start:][::-1])
    stop, other_stop = len(one) - behind, len(other) - behind
    if (one[start:stop], other[start:other_stop]) != (str(number), str(number + 1)):
        raise _Hidden
    return one[:start] + INDEX + one[stop:]


def _shared(one: str, other: str) -> int:
    """How many letters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
