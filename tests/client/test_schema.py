"""JSON schemas: each keyword is enforced or refused, and none takes more than it may."""

from __future__ import annotations

import json
import time

import jsonschema_rs
import pytest
import torch

from swarm.client.grammar import Grammar
from swarm.client.grammar.compiler import Compiler
from swarm.errors import RequestError

EOS = 2


@pytest.fixture(scope="module")
def tokenizer(make_byte_level):
    return make_byte_level()


@pytest.fixture(scope="module")
def compiler(tokenizer):
    return Compiler(lambda: tokenizer, len(tokenizer), lambda: {EOS})


async def writes(compiler, tokenizer, schema, value):
    """Whether a value can be written under a schema."""
    matcher = await compiler.matcher(Grammar.json_schema(schema))
    for token in tokenizer(json.dumps(value, ensure_ascii=False))["input_ids"]:
        if matcher.finished or matcher.mask(zeros(tokenizer))[token].isinf():
            return False
        matcher.advance(token)
    return matcher.finished or not matcher.mask(zeros(tokenizer))[EOS].isinf()


def zeros(tokenizer):
    return torch.zeros(len(tokenizer))


OPEN = {"type": "object"}
DRAFT_4 = {"$schema": "http://json-schema.org/draft-04/schema#"}
DRAFT_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}
ENFORCED = {
    "type": ({"type": ["string", "null"]}, [None, "a"], [3, [], True]),
    "type integer": ({"type": "integer"}, [3, -7], [3.5, "3"]),
    "enum": ({"enum": [1, "a", None, {"b": [1]}]}, ["a", {"b": [1]}], [2, "b", {"b": [2]}]),
    "const": ({"const": "é\n"}, ["é\n"], ["e"]),
    "const number": ({"const": 2.5}, [2.5], [2.6, 2]),
    "minimum": ({"type": "integer", "minimum": 17}, [17, 1000], [16, -20]),
    "maximum": ({"type": "number", "maximum": 2.5}, [2.5, -8], [2.6]),
    "exclusiveMinimum": ({"type": "number", "exclusiveMinimum": 0}, [0.1], [0, -1]),
    "exclusiveMaximum": ({"type": "integer", "exclusiveMaximum": 10}, [9], [10]),
    "exclusiveMinimum of draft 4": (
        {**DRAFT_4, "type": "integer", "minimum": 3, "exclusiveMinimum": True}, [4], [3],
    ),
    "multipleOf": ({"type": "integer", "multipleOf": 7}, [21, 0], [22]),
    "multipleOf a fraction": ({"type": "number", "multipleOf": 0.25}, [0.75], [0.3]),
    "minLength": ({"type": "string", "minLength": 3}, ["abc", "äöü"], ["ab", "äö"]),
    "maxLength": ({"type": "string", "maxLength": 2}, ["ab", "äö", ""], ["abc"]),
    "pattern": ({"type": "string", "pattern": "^a+b$"}, ["aab"], ["aa", "aabc"]),
    "pattern anywhere": ({"type": "string", "pattern": "b+"}, ["abc", "b"], ["ac"]),
    "pattern with choices": ({"type": "string", "pattern": "^a|b$"}, ["ac", "cb"], ["ca"]),
    "pattern with classes": ({"type": "string", "pattern": r"^\d\w$"}, ["3a"], ["٣a", "3é"]),
    "pattern and length": (
        {"type": "string", "pattern": "^a+$", "minLength": 2, "maxLength": 3},
        ["aa"], ["a", "aaaa"],
    ),
    "format": ({"type": "string", "format": "date"}, ["2026-02-28"], ["2026-13-01", "x"]),
    "format uuid": (
        {"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["12"],
    ),
    "items": ({"type": "array", "items": {"type": "null"}}, [[None], []], [[1]]),
    "items false": ({"type": "array", "items": False}, [[]], [[1]]),
    "items as a list": (
        {**DRAFT_7, "type": "array", "items": [{"const": 1}], "additionalItems": {"const": 2}},
        [[1, 2, 2], [1], []], [[2], [1, 1]],
    ),
    "items as a list alone": (
        {**DRAFT_7, "type": "array", "items": [{"const": 1}]}, [[1, "a"]], [[2]],
    ),
    "additionalItems beside items": (
        {**DRAFT_7, "items": {"const": 1}, "additionalItems": False, "type": "array"},
        [[1, 1]], [[2]],
    ),
    "prefixItems": ({"type": "array", "prefixItems": [{"const": 1}]}, [[1, 2], []], [[2]]),
    "minItems": ({"type": "array", "minItems": 2}, [[1, 2]], [[1], []]),
    "maxItems": ({"type": "array", "maxItems": 1}, [[1], []], [[1, 2]]),
    "properties": ({**OPEN, "properties": {"a": {"const": 1}}}, [{"a": 1}, {}], [{"a": 2}]),
    "required": ({**OPEN, "required": ["a"]}, [{"a": 1}, {"a": 1, "b": 2}], [{}, {"b": 1}]),
    "additionalProperties": (
        {**OPEN, "additionalProperties": {"type": "null"}}, [{"a": None}], [{"a": 1}],
    ),
    "patternProperties": (
        {**OPEN, "patternProperties": {"^x": {"type": "null"}}},
        [{"x1": None, "y": 1}], [{"x1": 1}],
    ),
    "minProperties": ({**OPEN, "minProperties": 1}, [{"a": 1}], [{}]),
    "minProperties that are required": (
        {**OPEN, "required": ["a", "b"], "minProperties": 2}, [{"a": 1, "b": 1}], [{"a": 1}],
    ),
    "maxProperties": ({**OPEN, "maxProperties": 1}, [{"a": 1}, {}], [{"a": 1, "b": 1}]),
    "anyOf": ({"anyOf": [{"type": "null"}, {"const": 1}]}, [None, 1], [2]),
    "oneOf": ({"oneOf": [{"type": "null"}, {"type": "integer"}]}, [None, 1], ["a"]),
    "allOf": ({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]}, [3, 5], [2, 6]),
    "$ref": (
        {"$defs": {"a/b": {"const": 1}}, "type": "array", "items": {"$ref": "#/$defs/a~1b"}},
        [[1]], [[2]],
    ),
    "$ref with siblings": (
        {"definitions": {"n": {"type": "integer"}}, "$ref": "#/definitions/n", "minimum": 3},
        [3], [2],
    ),
    "$ref to itself": (
        {**OPEN, "properties": {"a": {"$ref": "#"}}, "additionalProperties": False},
        [{"a": {"a": {}}}], [{"a": {"b": {}}}, {"a": 1}],
    ),
    "true": (True, [1, "a", None, [{}]], []),
    "annotations": (
        {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://a.org/x",
         "title": "T", "description": "D", "default": 1, "examples": [1], "deprecated": True,
         "$comment": "C", "x-more": 1, "contentEncoding": "base64", "readOnly": True,
         "type": "integer"},
        [1], ["a"],
    ),
    "x-guidance": ({"type": "integer", "x-guidance": {"lenient": True}, "minimum": 2}, [2], [1]),
}  # fmt: skip


@pytest.mark.parametrize("what", ENFORCED)
async def test_it_is_enforced(compiler, tokenizer, what):
    schema, good, bad = ENFORCED[what]
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    for value in good:
        assert await writes(compiler, tokenizer, schema, value), value
        assert validator.is_valid(value)
    for value in bad:
        assert not validator.is_valid(value), value
        assert not await writes(compiler, tokenizer, schema, value), value


OVERLAP = {"oneOf": [{"minimum": 3}, {"maximum": 5}]}
APART = {"oneOf": [{"type": "null"}, {"type": "number"}]}
REFUSED = {
    "not": ({"not": {"type": "string"}}, "#/not"),
    "if": ({"if": {"minimum": 3}, "then": {"maximum": 5}}, "#/if"),
    "uniqueItems": ({"type": "array", "uniqueItems": True}, "#/uniqueItems"),
    "contains": ({"properties": {"a": {"contains": {"const": 1}}}}, "#/properties/a/contains"),
    "minContains": ({"minContains": 1}, "minContains"),
    "propertyNames": ({"propertyNames": {"maxLength": 3}}, "propertyNames"),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, "dependentRequired"),
    "dependentSchemas": ({"dependentSchemas": {"a": {}}}, "dependentSchemas"),
    "dependencies": ({"dependencies": {"a": ["b"]}}, "dependencies"),
    "unevaluatedProperties": ({"unevaluatedProperties": False}, "unevaluatedProperties"),
    "unevaluatedItems": ({"unevaluatedItems": False}, "unevaluatedItems"),
    "$dynamicRef": ({"$dynamicRef": "#a"}, "dynamicRef"),
    "$recursiveRef": ({"$recursiveRef": "#"}, "recursiveRef"),
    "$id within": ({"properties": {"a": {"$id": "b"}}}, r"#/properties/a/\$id"),
    "nullable": ({"type": "string", "nullable": True}, "nullable"),
    "unheard of": ({"frobnicate": 1}, "frobnicate"),
    "minProperties": ({"minProperties": 2}, "#/minProperties"),
    "oneOf that overlaps": (OVERLAP, "schema #/oneOf: "),
    "oneOf within": ({"properties": {"a/b": {"items": OVERLAP}}}, "#/properties/a~1b/items/o"),
    "one of several": ({"anyOf": [APART, {"allOf": [APART, OVERLAP]}]}, "#/anyOf/1/allOf/1/o"),
    "oneOf referred to": ({"$defs": {"x": OVERLAP, "y": APART}, "$ref": "#/$defs/x"}, "/x/oneOf: "),
    "format": ({"type": "string", "format": "iri"}, "#/format.*iri"),
    "look-around": ({"pattern": "^(?=a)"}, "#/pattern"),
    "reference back": ({"pattern": r"(a)\1"}, "#/pattern"),
    "look-around in a name": ({"patternProperties": {"(?!a)": {}}}, "#/patternProperties"),
    "$ref elsewhere": ({"$ref": "https://a.org/x"}, r"#/\$ref"),
    "$ref to nowhere": ({"$ref": "#/$defs/x"}, r"#/\$ref"),
    "$ref to an anchor": ({"$defs": {"a": {"$anchor": "b"}}, "$ref": "#b"}, r"#/\$ref"),
    "$ref to no schema": ({"enum": [{"type": "null"}], "items": {"$ref": "#/enum/0"}}, "items/"),
    "false": (False, "nothing"),
    "false within": ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "unsat"),
    "nobody": ({"type": "integer", "minimum": 3, "maximum": 2}, "(?i)minimum"),
    "types": ({"type": "text"}, "#/type"),
    "a type that is a number": ({"type": 3}, "#/type"),
    "no schema": ({"items": 3}, "#/items"),
    "schemas that are none": ({"anyOf": {}}, "#/anyOf"),
    "nothing to choose from": ({"enum": []}, "#/enum"),
    "a negative count": ({"minItems": -1}, "#/minItems"),
    "a broken count": ({"minItems": 1.5}, "#/minItems"),
    "a number that is none": ({"minimum": float("nan")}, "#/minimum"),
    "a number beyond what is exact": ({"const": 2**53 + 1}, "#/const"),
    "control characters": ({"enum": ["a\0"]}, "#/enum/0"),
    "half of a character": ({"const": "\ud800"}, "#/const"),
    "names that are none": ({"required": "a"}, "#/required"),
    "keys that are no text": ({3: 4}, "key"),
    "a value that is none": ({"const": {1, 2}}, "#/const"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
async def test_it_is_refused_and_named(compiler, what):
    schema, where = REFUSED[what]
    with pytest.raises(RequestError, match=where):
        await compiler.matcher(Grammar.json_schema(schema))


async def test_a_refusal_of_one_of_many_choices_is_cheap(compiler):
    schema = {"properties": {f"p{n}": OVERLAP for n in range(900)}}
    started = time.process_time()
    with pytest.raises(
        RequestError, match="schema #/properties/p0/oneOf: oneOf is supported where"
    ):
        await compiler.matcher(Grammar.json_schema(schema))
    assert time.process_time() - started < 3


async def test_a_refusal_in_a_grammars_part_is_named_too(compiler):
    parts = Grammar.json_schema(APART), Grammar.json_schema({"items": OVERLAP})
    with pytest.raises(RequestError, match="schema #/items/oneOf: "):
        await compiler.matcher(Grammar.sequence(*parts))


async def test_no_name_can_be_written_twice(compiler, tokenizer):
    """`"\\u0061"` is another way to write a name that is taken."""
    matcher = await compiler.matcher(Grammar.json_schema({"properties": {"a": {"const": 1}}}))
    for letter in '{"':
        matcher.advance(tokenizer.convert_tokens_to_ids(letter))
    matcher.advance(tokenizer.convert_tokens_to_ids("\\"))
    assert matcher.mask(zeros(tokenizer))[tokenizer.convert_tokens_to_ids("u")].isinf()


# Bombs


def nested(depth, schema=None):
    for _ in range(depth):
        schema = {"properties": {"a": schema or {}}, "type": "object"}
    return schema


def doubled(depth):
    names = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(depth)}
    return {"$defs": {**names, f"d{depth}": {"type": "object"}}, "$ref": "#/$defs/d0"}


def either(depth, schema=True):
    for _ in range(depth):
        schema = {"anyOf": [schema, schema]}
    return schema


BOMBS = {
    "deep": lambda: nested(5000),
    "a circle": lambda: {"$ref": "#"},
    "a circle with siblings": lambda: {"allOf": [{"$ref": "#"}, {"type": "object"}]},
    "every choice twice": lambda: either(16),
    "every part twice": lambda: doubled(60),
    "objects multiplied": lambda: {
        "allOf": [{"anyOf": [{"properties": {f"{n}{m}": {}}} for m in range(9)]} for n in range(9)]
    },
    "a large enum": lambda: {"enum": [f"value {n}" for n in range(100_000)]},
    "a large constant": lambda: {"const": {f"k{n}": [n] * 20 for n in range(400)}},
    "many properties": lambda: {"type": "object", "properties": {f"p{n}": {} for n in range(1000)}},
    "too many properties": lambda: {"properties": {f"p{n}": {} for n in range(20_000)}},
    "many patterns": lambda: {
        "properties": {f"p{n}": {"pattern": f"^a{{{n},{n + 50}}}$"} for n in range(900)}
    },
    "patterns multiplied": lambda: {"allOf": [{"pattern": f".{{{n}}}a"} for n in range(2, 40)]},
    "patterns multiplied out of sight": lambda: {
        "allOf": [{"properties": {"b": {"pattern": f".{{{n}}}a"}}} for n in range(2, 40)]
    },
    "names multiplied": lambda: {
        "type": "object",
        "patternProperties": {f"a.{{{n}}}b": {"const": n} for n in range(2, 30)},
    },
    "lengths": lambda: {"type": "string", "pattern": "(.*a.{20}){20}", "minLength": 10},
    "an expression": lambda: {"type": "string", "pattern": "((a{1,999}){1,999}){1,999}"},
    "a slow expression": lambda: {"type": "string", "pattern": "(.*a.{20}){20}"},
    "parentheses": lambda: {"type": "string", "pattern": "(" * 9000 + ")" * 9000},
    "many items": lambda: {"type": "array", "minItems": 2**31, "items": {"minItems": 2**31}},
    "a large map": lambda: {"type": "object", "minProperties": 1, "maxProperties": 2**31},
    "multiples": lambda: {
        "allOf": [{"type": "integer", "multipleOf": n} for n in (7919, 7907, 7901, 7883)]
    },
    "a large divisor": lambda: {"type": "integer", "multipleOf": 1_234_567_891},
    "a small divisor": lambda: {"type": "number", "multipleOf": 1e-300},
    "a long name": lambda: {"required": ["x" * 300_000]},
    "a long text": lambda: {"type": "string", "minLength": 2**31},
}


@pytest.mark.parametrize("what", BOMBS)
async def test_a_bomb_costs_little_and_is_refused_or_followed(compiler, tokenizer, what):
    schema = BOMBS[what]()
    started = time.process_time()
    try:
        matcher = await compiler.matcher(Grammar.json_schema(schema))
        for _ in range(20):
            if matcher.finished:
                break
            allowed = (~matcher.mask(zeros(tokenizer)).isinf()).nonzero().flatten()
            matcher.advance(int(allowed[len(allowed) // 2]))
    except RequestError as error:
        assert len(str(error)) < 2000
    assert time.process_time() - started < 3
