"""Which JSON schemas can be enforced: all else is refused here, and nothing is ignored.

The rules are those of draft 2020-12 (https://json-schema.org/draft/2020-12). What older
drafts write differently is rewritten: `items` as a list, `additionalItems`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from swarm.errors import RequestError
from swarm.quoting import quoted

from .intersections import MAX_TOGETHER, expressions

MAX_DEPTH = 64
"""Schemas and values within one another."""

MAX_NODES = 5000
"""Schemas, and values in `enum` and `const`, altogether."""

MAX_CHARS = 1 << 18
"""Characters of names, patterns and other text, altogether."""

MAX_PROPERTIES = 1000
"""Properties of one object; the library's time goes by their square."""

_EXACT = 2**53
"""Beyond this the library, which reads numbers as floating point, would take others for them."""

_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})

_ANY_FORMAT = ""
_NO_LEAP_SECOND = r"^[^.]*:[0-5][0-9](\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
_FORMATS = {
    "date-time": _NO_LEAP_SECOND,
    "time": _NO_LEAP_SECOND,
    "date": _ANY_FORMAT,
    "duration": _ANY_FORMAT,
    # What a mail server has to take (RFC 5321, section 4.5.3.1).
    "email": r"^[^@]{1,64}@[^@]{1,189}$",
    "hostname": _ANY_FORMAT,
    "ipv4": _ANY_FORMAT,
    "ipv6": _ANY_FORMAT,
    "uuid": _ANY_FORMAT,
    "uri": _ANY_FORMAT,
}
"""What the library knows, and what it is too generous with: a pattern in addition."""

SINGLE = frozenset({"items", "additionalItems", "additionalProperties"})
"""Keywords that have a schema."""

LISTED = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
"""Keywords that have a list of schemas."""

NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
"""Keywords that have schemas by name."""

_COUNTS = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
)
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})

_ANNOTATIONS = frozenset(
    {
        "$schema",
        "$comment",
        "$anchor",
        "title",
        "description",
        "default",
        "example",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentMediaType",
        "contentEncoding",
        "discriminator",
    }
)
"""What says nothing of which values are allowed. `discriminator` is OpenAPI's hint for `oneOf`."""

_CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")
"""What JSON writes as numbers of characters, which is not allowed in texts (`layout.py`)."""

_UNKNOWN_REGEX = re.compile(r"(?:[^\\]|^)(?:\\\\)*(?:\(\?<?[=!]|\\[1-9kbB])")
"""Look-around, references back, and borders of words."""


def checked(schema: Mapping[str, Any] | bool) -> dict[str, Any]:
    """The schema without annotations, for the library.

    Raises `RequestError`, with the keyword and its place, for what cannot be enforced or is none.
    """
    check = _Check()
    held = check.schema(schema, "#", 0)
    check.references()
    if held is False:
        raise RequestError("this JSON schema allows nothing")
    if isinstance(held, bool):
        return {}
    if (number := expressions(held)) > MAX_TOGETHER:
        raise RequestError(
            f"this JSON schema lays {number} patterns, formats and lengths over one another,"
            f" {MAX_TOGETHER} at most can be followed"
        )
    return held


class _Check:
    """One walk through a schema."""

    def __init__(self) -> None:
        self._num_nodes = 0
        self._num_chars = 0
        self._places: set[str] = set()
        self._references: list[tuple[str, str]] = []

    def schema(self, schema: Any, place: str, depth: int) -> dict[str, Any] | bool:
        """One schema, which stands at `place`."""
        self._count(place, depth)
        self._places.add(place)
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise RequestError(f"{at(place)} is no JSON schema but {quoted(schema)}")
        kept: dict[str, Any] = {}
        for keyword, value in schema.items():
            if not isinstance(keyword, str):
                raise RequestError(f"{at(place)} has a key that is no text")
            if keyword in _ANNOTATIONS or keyword.startswith("x-"):
                continue
            if keyword in ("$id", "id") and place == "#":
                continue
            kept[keyword] = self._keyword(keyword, value, f"{place}/{step(keyword)}", depth + 1)
        _rewrite_items(kept)
        _rewrite_format(kept)
        _check_properties(kept, place)
        return kept

    def references(self) -> None:
        """Whether all that is referred to is there."""
        for reference, place in self._references:
            if unquote(reference) not in self._places:
                raise RequestError(
                    f"{at(place)}: no schema stands at {quoted(reference)}; only what is in this"
                    " schema itself, by its place (#/…), can be referred to"
                )

    def _keyword(self, keyword: str, value: Any, place: str, depth: int) -> Any:
        if keyword in SINGLE and not (keyword == "items" and isinstance(value, list)):
            return self.schema(value, place, depth)
        if keyword in LISTED or keyword == "items":
            _expect(isinstance(value, list) and value, place, "a list of schemas")
            return [self.schema(each, f"{place}/{n}", depth) for n, each in enumerate(value)]
        if keyword in NAMED:
            return self._named(value, place, depth)
        if keyword in _COUNTS:
            whole = isinstance(value, (int, float)) and not isinstance(value, bool)
            _expect(whole and 0 <= value <= 2**31 and value == int(value), place, "a count")
            return int(value)
        if keyword in _NUMBERS:
            if isinstance(value, bool) and keyword.startswith("exclusive"):
                return value  # as draft 4 has it
            _expect(_is_exact(value), place, "a number up to 2^53")
            return value
        reader = _READERS.get(keyword)
        if reader is None:
            raise RequestError(f"{at(place)}: the keyword {quoted(keyword)} is not supported")
        return reader(self, value, place, depth)

    def _named(self, value: Any, place: str, depth: int) -> dict[str, Any]:
        _expect(isinstance(value, Mapping), place, "schemas by name")
        _expect(len(value) <= MAX_PROPERTIES, place, f"at most {MAX_PROPERTIES}")
        for name in value:
            _expect(isinstance(name, str), place, "schemas by name")
            self._add_text(name, place)
            if place.endswith("/patternProperties"):
                _check_pattern(name, place)
        return {
            name: self.schema(each, f"{place}/{step(name)}", depth) for name, each in value.items()
        }

    def _read_type(self, value: Any, place: str, depth: int) -> Any:
        types = value if isinstance(value, list) else [value]
        known = types and all(isinstance(each, str) and each in _TYPES for each in types)
        _expect(known, place, f"one or several of {', '.join(sorted(_TYPES))}")
        return value

    def _read_enum(self, value: Any, place: str, depth: int) -> Any:
        _expect(isinstance(value, list) and value, place, "a list of values")
        return [self._read_const(each, f"{place}/{n}", depth) for n, each in enumerate(value)]

    def _read_const(self, value: Any, place: str, depth: int) -> Any:
        """Any JSON value."""
        self._count(place, depth)
        match value:
            case None | bool():
                return value
            case str():
                self._add_text(value, place)
                if _CONTROL.search(value):
                    raise RequestError(f"{at(place)}: {quoted(value)} holds control characters")
                return value
            case int() | float():
                _expect(_is_exact(value), place, "a number up to 2^53")
                return value
            case list():
                return [self._read_const(each, place, depth + 1) for each in value]
            case Mapping() if all(isinstance(name, str) for name in value):
                for name in value:
                    self._add_text(name, place)
                return {
                    name: self._read_const(each, place, depth + 1) for name, each in value.items()
                }
        raise RequestError(f"{at(place)} is no JSON value but {quoted(value)}")

    def _read_required(self, value: Any, place: str, depth: int) -> Any:
        names = isinstance(value, list) and all(isinstance(each, str) for each in value)
        _expect(names and len(value) <= MAX_PROPERTIES, place, "a list of names")
        for name in value:
            self._add_text(name, place)
        return value

    def _read_pattern(self, value: Any, place: str, depth: int) -> Any:
        _expect(isinstance(value, str), place, "a regular expression")
        self._add_text(value, place)
        _check_pattern(value, place)
        return value

    def _read_format(self, value: Any, place: str, depth: int) -> Any:
        _expect(isinstance(value, str), place, "a format's name")
        if value not in _FORMATS:
            raise RequestError(f"{at(place)}: the format {quoted(value)} is not supported")
        return value

    def _read_reference(self, value: Any, place: str, depth: int) -> Any:
        _expect(isinstance(value, str), place, "a reference")
        self._add_text(value, place)
        self._references.append((value, place))
        return value

    def _count(self, place: str, depth: int) -> None:
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES or depth > MAX_DEPTH:
            raise RequestError(
                f"{at(place)}: a JSON schema has at most {MAX_NODES} parts and values,"
                f" {MAX_DEPTH} deep"
            )

    def _add_text(self, text: str, place: str) -> None:
        self._num_chars += len(text)
        if self._num_chars > MAX_CHARS:
            raise RequestError(f"{at(place)}: a JSON schema has at most {MAX_CHARS} characters")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(f"{at(place)}: {quoted(text)} is no Unicode text") from error


_READERS: dict[str, Callable[[_Check, Any, str, int], Any]] = {
    "type": _Check._read_type,
    "enum": _Check._read_enum,
    "const": _Check._read_const,
    "required": _Check._read_required,
    "pattern": _Check._read_pattern,
    "format": _Check._read_format,
    "$ref": _Check._read_reference,
}


def _rewrite_items(kept: dict[str, Any]) -> None:
    if isinstance(kept.get("items"), list):
        kept["prefixItems"] = kept.pop("items")
        if "additionalItems" in kept:
            kept["items"] = kept.pop("additionalItems")
    # Beside items that are no list it means nothing.
    kept.pop("additionalItems", None)


def _rewrite_format(kept: dict[str, Any]) -> None:
    if pattern := _FORMATS.get(kept.get("format", "")):
        kept["allOf"] = [*kept.get("allOf", []), {"pattern": pattern}]


def _check_properties(kept: dict[str, Any], place: str) -> None:
    """The library lets names that are not listed come twice, of which a reader keeps one."""
    least = kept.get("minProperties", 0)
    if least > max(1, len(set(kept.get("required", ())))):
        raise RequestError(
            f"{at(place)}/minProperties: {least} can only be enforced where as many are required"
        )


def _check_pattern(pattern: str, place: str) -> None:
    if _UNKNOWN_REGEX.search(pattern):
        raise RequestError(
            f"{at(place)}: {quoted(pattern)} looks around or back, which is not supported"
        )


def _is_exact(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and abs(value) <= _EXACT


def _expect(holds: Any, place: str, what: str) -> None:
    if not holds:
        raise RequestError(f"{at(place)}: should be {what}")


def step(name: str) -> str:
    """A name as part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def at(place: str) -> str:
    """A place as errors tell it."""
    shown = place if len(place) <= 200 else f"{place[:100]}…{place[-99:]}"
    return f"schema {shown}"
