"""JSON schemas of whoever asks for JSON: enforced to the letter, or refused, at little cost."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from functools import cache
from typing import Any

import jsonschema_rs
import torch
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from swarm.client.grammar import Grammar, Layout
from swarm.client.grammar.compiler import Compiler
from swarm.errors import RequestError

from .bounds import Bounds, Excess, read
from .fuzzer import Fuzzer
from .hostile import altered

_BOUNDS = Bounds(memory=1 << 20, memory_per_byte=400, lines=3_000, lines_per_byte=200)

_SECONDS = 4.0
"""Of the library's computing, which is not in lines of ours; the worst that were found take one."""

_MAX_LEN = 120
"""Tokens of a text; those that take longer are not looked at."""

_NAMES = st.sampled_from(["a", "b", "ab", "", 'q"\\', "a/b", "é", "\n"])
_COUNTS = st.integers(0, 4)
_NUMBERS = st.one_of(st.integers(-20, 20), st.sampled_from([0.5, -2.25, 1e-3, 1e6, 2**53, 1e15]))
_TEXTS = st.one_of(st.sampled_from(["", "a", "ab", 'q"', "é\n", "\U0001f600"]), st.text(max_size=4))
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=3)
    ),
    max_leaves=4,
)
_PATTERNS = st.sampled_from(
    ["^a+$", "b", "^[a-c]{1,3}-[0-9]$", "^(ab|c)*$", "", "^$", "a|^b", "x{2,}$", "(.*a.{9}){9}"]
)
_FORMATS = st.sampled_from(
    ["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"]
)
_REFERENCES = st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/nowhere"])
_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "enum": st.lists(_VALUES, min_size=1, max_size=3),
    "const": _VALUES,
    "minimum": _NUMBERS,
    "maximum": _NUMBERS,
    "exclusiveMinimum": _NUMBERS,
    "exclusiveMaximum": _NUMBERS,
    "multipleOf": st.sampled_from([1, 2, 7, 0.5, 0.1]),
    "minLength": _COUNTS,
    "maxLength": _COUNTS,
    "pattern": _PATTERNS,
    "format": _FORMATS,
    "minItems": _COUNTS,
    "maxItems": _COUNTS,
    "required": st.lists(_NAMES, max_size=3, unique=True),
    "minProperties": _COUNTS,
    "maxProperties": _COUNTS,
    "$ref": _REFERENCES,
    "uniqueItems": st.booleans(),
    "title": _TEXTS,
}
_TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def _keywords(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    some = st.lists(inner, min_size=1, max_size=3)
    return {
        **_PLAIN,
        "items": inner,
        "prefixItems": some,
        "additionalProperties": inner,
        "properties": st.dictionaries(_NAMES, inner, max_size=3),
        "patternProperties": st.dictionaries(_PATTERNS, inner, max_size=2),
        "anyOf": some,
        "oneOf": some,
        "allOf": some,
        "not": inner,
        "$defs": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    }


@st.composite
def _schema(draw: st.DrawFn, keywords: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    if draw(st.integers(0, 3)):
        schema["type"] = draw(st.one_of(_TYPES, st.lists(_TYPES, min_size=1, max_size=2)))
    for name in draw(st.lists(st.sampled_from(sorted(keywords)), max_size=4, unique=True)):
        schema[name] = draw(keywords[name])
    return schema


_SCHEMAS = st.recursive(
    st.one_of(st.booleans(), _schema(_PLAIN)),
    lambda inner: _schema(_keywords(inner)),
    max_leaves=6,
)
_CASES = st.tuples(
    st.one_of(_SCHEMAS, _SCHEMAS, _SCHEMAS.flatmap(altered)),
    st.sampled_from(list(Layout)),
    st.integers(0, 1 << 16),
)


@cache
def _model() -> tuple[Any, Compiler]:
    """A tokenizer of bytes and a few words, and who compiles for it."""
    merges = [("{", '"'), ('"', ":"), ("t", "r"), ("Ġ", '"'), (":", "Ġ"), ("0", "0")]
    words = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [left + right for left, right in merges]
    tokenizer = Tokenizer(
        models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")
    return fast, Compiler(lambda: fast, len(words), lambda: {2})


async def _write(grammar: Grammar, seed: int) -> str | None:
    """A text of the grammar, by chance; None where it becomes long."""
    tokenizer, compiler = _model()
    matcher = await compiler.matcher(grammar)
    logits, draw, ids = torch.zeros(len(tokenizer)), random.Random(seed), []
    closing = set(tokenizer.convert_tokens_to_ids(["}", "]", '"']))
    for _ in range(_MAX_LEN):
        allowed = (~matcher.mask(logits).isinf()).nonzero().flatten().tolist()
        forced = matcher.forced()
        assert allowed and (not forced or allowed == forced[:1])
        if 2 in allowed and draw.random() < 0.7:
            return str(tokenizer.decode(ids))
        ends = closing.intersection(allowed)
        chosen = min(ends) if ends and draw.random() < 0.5 else draw.choice(allowed)
        if chosen == 2:
            return str(tokenizer.decode(ids))
        matcher.advance(chosen)
        ids.append(chosen)
        if matcher.finished:
            return str(tokenizer.decode(ids))
    return None


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise OverflowError
    return number


def check(case: tuple[Any, Layout, int]) -> None:
    """Whatever is written under a schema that is taken is what the schema says."""
    schema, layout, seed = case
    size = len(repr(schema))
    _model()[1]  # what is loaded once is no input's doing
    grammar = read(lambda: Grammar.json_schema(schema, layout), RequestError, size, _BOUNDS)
    if grammar is None:
        return
    started = time.process_time()
    try:
        text = asyncio.run(_write(grammar, seed))
    except RequestError as error:
        assert len(str(error)) < 2000
        text = None
    if time.process_time() - started > _SECONDS:
        raise Excess(f"more than {_SECONDS} s of computing")
    if text is None:
        return
    try:
        value = json.loads(text, parse_float=_finite)
    except OverflowError:
        return  # JSON, but larger than what it is checked with can hold
    try:
        validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    except (jsonschema_rs.ValidationError, ValueError):
        return  # not a schema to it, which is stricter
    assert validator.is_valid(value), text


FUZZER = Fuzzer(_CASES, check, examples=250)
