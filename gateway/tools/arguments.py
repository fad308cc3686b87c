"""Reads the arguments of one call, and tells them as JSON while they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from .head import Head, NoCall, Reads
from .json_text import JsonText, NoJson
from .syntax import Pairs, Syntax, is_coded

Tell = Callable[[str], None]

_LONGEST_KEY = 256

_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


def read_object(head: Head, tell: Tell) -> Reads:
    """Arguments that are written as a JSON object; they are told as they are."""
    yield from _read_json(head, tell, JsonText())


def read_pairs(
    head: Head, syntax: Syntax, ends: Sequence[str], schema: Mapping[str, Any], tell: Tell
) -> Generator[None, None, str]:
    """Arguments that are written one by one, up to one of `ends`, which is returned."""
    pairs = syntax.pairs
    assert pairs is not None
    none = {pairs.none + end: end for end in ends}
    found = yield from head.literal(syntax.middle, *none)
    if found in none:
        tell("{}")
        return none[found]
    tell("{")
    while True:
        yield from _read_pair(head, pairs, schema, tell)
        behind = "" if pairs.raw else pairs.end
        more = {behind + end: end for end in ends}
        found = yield from head.literal(behind + pairs.more, *more)
        if found in more:
            tell("}")
            return more[found]
        tell(", ")


def _read_pair(head: Head, pairs: Pairs, schema: Mapping[str, Any], tell: Tell) -> Reads:
    first = pairs.key.lstrip()[:1]
    key = yield from head.until(frozenset(first), _LONGEST_KEY)
    key = key.strip()
    if not key or any(map(is_coded, key)):
        raise NoCall
    yield from head.literal(pairs.key)
    tell(json.dumps(key, ensure_ascii=False) + ": ")
    if not pairs.raw:
        yield from _read_json(head, tell, JsonText(is_object=False))
        return
    types = _types(schema, key)
    if types == {"string"}:
        tell('"')
        yield from _read_raw(head, pairs, lambda text: tell(_quoted(text)))
        tell('"')
    else:
        parts: list[str] = []
        yield from _read_raw(head, pairs, parts.append)
        tell(_value("".join(parts), types))


def _read_json(head: Head, tell: Tell, text: JsonText) -> Reads:
    tape = head.tape
    while (yield from head.letter()).isspace():
        tape.read(tape.at + 1)
    while not text.finished:
        yield from head.letter()
        try:
            end = text.feed(tape.unread, tape.at)
        except NoJson as error:
            tape.read(error.at)
            raise NoCall from error
        tell(tape.read(end))


def _read_raw(head: Head, pairs: Pairs, tell: Tell) -> Reads:
    """A text as it is, without the spaces that the syntax puts around it."""
    tape, end = head.tape, pairs.end.strip()
    before, after = pairs.key[len(pairs.key.rstrip()) :], pairs.end[: -len(pairs.end.lstrip())]
    if before and (yield from head.comes(before)):
        tape.read(tape.at + len(before))
    while (at := tape.unread.find(end, tape.at)) < 0:
        held = len(end) + len(after)
        if part := tape.read(max(tape.at, len(tape.unread) - held)):
            tell(part)
        yield from head.more()
    tell(tape.read(at).removesuffix(after))
    tape.read(at + len(end))


def _quoted(text: str) -> str:
    """As a part of a JSON string."""
    if any(map(is_coded, text)):
        raise NoCall
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _value(text: str, types: frozenset[str]) -> str:
    """A value that may be a text or JSON, as its schema wants it, in JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
    kind = _TYPES.get(type(value), "string")
    kinds = {kind, "number"} if kind == "integer" else {kind}
    if types and not kinds & types and "string" in types:
        return json.dumps(text, ensure_ascii=False)
    return text.strip()


def _types(schema: Mapping[str, Any], key: str) -> frozenset[str]:
    """The types that an argument may have; none if its schema does not say."""
    properties = schema.get("properties")
    held = properties.get(key) if isinstance(properties, Mapping) else None
    if not isinstance(held, Mapping):
        return frozenset()
    kind = held.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if isinstance(kind, list):
        return frozenset(each for each in kind if isinstance(each, str))
    known = held.get("enum")
    if isinstance(known, list) and known and all(isinstance(each, str) for each in known):
        return frozenset({"string"})
    return frozenset()
