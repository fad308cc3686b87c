"""JSON schemas as programs ask for them, and single keywords with values that tell who obeys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """A schema, and a value that is written under it."""

    name: str
    schema: dict[str, Any]
    value: Any


@dataclass(frozen=True)
class Feature:
    """A keyword: `good` keeps to it, `bad` does not."""

    name: str
    schema: dict[str, Any]
    good: Any
    bad: Any


def _object(*, closed: bool = True, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {**schema, "additionalProperties": False} if closed else schema


def _nested(depth: int) -> tuple[dict[str, Any], Any]:
    schema, value = _object(id={"type": "integer"}), {"id": 7}
    for level in range(depth):
        name = f"level{level}"
        schema, value = _object(id={"type": "integer"}, **{name: schema}), {"id": 7, name: value}
    return schema, value


_TEXT = {"type": "string"}
_WORDS = "Peers compute hidden states, and the client alone chooses tokens; nobody else does. "
_KINDS = [f"kind_{number * 7919 % 1000}" for number in range(200)]
_EVENTS = [
    _object(type={"const": kind}, id={"type": "integer"}, **{f"{kind}_at": _TEXT})
    for kind in ("created", "moved", "deleted", "renamed", "shared", "archived")
]
_NODE = _object(name=_TEXT, sons={"type": "array", "items": {"$ref": "#/$defs/node"}})
_TREE = {"$defs": {"node": _NODE}, "$ref": "#/$defs/node"}
_FORMATS = {
    "date-time": "2026-11-22T14:30:00Z",
    "date": "2026-11-22",
    "time": "14:30:00Z",
    "email": "somebody@example.org",
    "ipv4": "192.0.2.17",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "uri": "https://example.org/a/b?c=d",
}

CASES = (
    Case(
        "tool call",
        _object(
            city=_TEXT, days={"type": "integer", "minimum": 1}, unit={"enum": ["celsius", "kelvin"]}
        ),
        {"city": "Reykjavik", "days": 3, "unit": "celsius"},
    ),
    Case("12 deep", *_nested(12)),
    Case("enum of 200", _object(kind={"enum": _KINDS}), {"kind": _KINDS[123]}),
    Case(
        "union of 6",
        {"type": "array", "items": {"anyOf": _EVENTS}},
        [{"type": "shared", "id": 3, "shared_at": "noon"}] * 3,
    ),
    Case(
        "$ref to itself",
        _TREE,
        {"name": "a", "sons": [{"name": "b", "sons": [{"name": "c", "sons": []}]}]},
    ),
    Case(
        "formats",
        _object(**{name: {"type": "string", "format": name} for name in _FORMATS}),
        _FORMATS,
    ),
    Case("long text", _object(text=_TEXT), {"text": _WORDS * 8}),
    Case(
        "text of 20 to 2000",
        _object(text={"type": "string", "minLength": 20, "maxLength": 2000}),
        {"text": _WORDS * 4},
    ),
    Case(
        "pattern",
        _object(
            code={"type": "string", "pattern": "^[A-Z]{2,4}-[0-9]{3,6}(-[a-z]+)?$"},
            phone={"type": "string", "pattern": r"^\+?[0-9][0-9 ()-]{5,18}$"},
        ),
        {"code": "ABC-12345-x", "phone": "+49 (30) 123-456"},
    ),
    Case(
        "map of numbers",
        {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
        {f"key {number}": number / 4 for number in range(12)},
    ),
    Case(
        "100 optional",
        {
            "type": "object",
            "properties": {f"field_{n}": {"type": ["string", "null"]} for n in range(100)},
            "additionalProperties": False,
        },
        {f"field_{n}": "x" for n in range(0, 100, 9)},
    ),
)

FEATURES = (
    Feature("type list", {"type": ["string", "null"]}, None, 3),
    Feature("enum", {"enum": [1, "a", None]}, None, 2),
    Feature("const", {"const": {"a": [1]}}, {"a": [1]}, {"a": [2]}),
    Feature("minimum", {"type": "integer", "minimum": 17}, 17, 16),
    Feature("maximum (number)", {"type": "number", "maximum": 2.5}, 2.5, 2.6),
    Feature("exclusiveMaximum", {"type": "integer", "exclusiveMaximum": 10}, 9, 10),
    Feature("multipleOf", {"type": "integer", "multipleOf": 7}, 21, 22),
    Feature("minLength", {"type": "string", "minLength": 3}, "abc", "ab"),
    Feature("maxLength", {"type": "string", "maxLength": 3}, "abc", "abcd"),
    Feature("pattern", {"type": "string", "pattern": "^a+b$"}, "aab", "aa"),
    Feature("pattern, not anchored", {"type": "string", "pattern": "b+"}, "abc", "ac"),
    Feature(
        "pattern, minLength", {"type": "string", "pattern": "^a+$", "minLength": 3}, "aaa", "a"
    ),
    Feature("format: date", {"type": "string", "format": "date"}, "2026-11-22", "2026-13-22"),
    Feature("format: uuid", {"type": "string", "format": "uuid"}, _FORMATS["uuid"], "12-3"),
    Feature("format: email", {"type": "string", "format": "email"}, "a@b.org", "a b"),
    Feature("format: ipv6", {"type": "string", "format": "ipv6"}, "2001:db8::1", "2001:xx::1"),
    Feature("format: uri", {"type": "string", "format": "uri"}, "https://a.org/", "no uri"),
    Feature("format: duration", {"type": "string", "format": "duration"}, "P3DT4H", "3 days"),
    Feature("format: hostname", {"type": "string", "format": "hostname"}, "a.org", "-a..org"),
    Feature("format: iri", {"type": "string", "format": "iri"}, "https://ä.org/", "no iri"),
    Feature("minItems", {"type": "array", "items": {}, "minItems": 2}, [1, 2], [1]),
    Feature("maxItems", {"type": "array", "items": {}, "maxItems": 1}, [1], [1, 2]),
    Feature("prefixItems", {"type": "array", "prefixItems": [{"const": 1}]}, [1, 2], [2]),
    Feature("uniqueItems", {"type": "array", "uniqueItems": True}, [1, 2], [1, 1]),
    Feature("contains", {"type": "array", "contains": {"const": 1}}, [2, 1], [2]),
    Feature("required", {"type": "object", "required": ["a"]}, {"a": 1}, {"b": 1}),
    Feature(
        "additionalProperties: false", _object(a={"type": "null"}), {"a": None}, {"a": None, "b": 1}
    ),
    Feature(
        "patternProperties",
        {"type": "object", "patternProperties": {"^x": {"type": "null"}}},
        {"x1": None},
        {"x1": 1},
    ),
    Feature(
        "propertyNames", {"type": "object", "propertyNames": {"maxLength": 2}}, {"a": 1}, {"abc": 1}
    ),
    Feature("minProperties: 1", {"type": "object", "minProperties": 1}, {"a": 1}, {}),
    Feature("minProperties: 2", {"type": "object", "minProperties": 2}, {"a": 1, "b": 1}, {"a": 1}),
    Feature("maxProperties", {"type": "object", "maxProperties": 1}, {"a": 1}, {"a": 1, "b": 1}),
    Feature(
        "dependentRequired",
        {"type": "object", "dependentRequired": {"a": ["b"]}},
        {"a": 1, "b": 1},
        {"a": 1},
    ),
    Feature("anyOf", {"anyOf": [{"type": "null"}, {"const": 1}]}, 1, 2),
    Feature("oneOf, apart", {"oneOf": [{"type": "null"}, {"type": "integer"}]}, 1, "a"),
    Feature(
        "oneOf, overlapping",
        {"oneOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 5}]},
        9,
        4,
    ),
    Feature(
        "allOf",
        {"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 5}]},
        4,
        6,
    ),
    Feature("allOf beside siblings", {"type": "integer", "allOf": [{"minimum": 3}]}, 3, 2),
    Feature("not", {"type": "integer", "not": {"const": 3}}, 4, 3),
    Feature(
        "if, then", {"type": "integer", "if": {"minimum": 9}, "then": {"multipleOf": 9}}, 9, 10
    ),
    Feature(
        "$ref beside siblings",
        {"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n", "minimum": 3},
        3,
        2,
    ),
)
