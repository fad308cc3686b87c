"""Grammars: what may come next, where a text ends, and that it is what was asked for."""

from __future__ import annotations

import json
import sys

import jsonschema_rs
import pytest
import torch

from swarm.client.grammar import Grammar, Layout
from swarm.client.grammar.compiler import Compiler
from swarm.client.sampling import Sampler, SamplingConfig
from swarm.errors import ConfigError, RequestError

MERGES = [("{", '"'), ('"', ":"), ("a", "b"), ("<", "c"), ('"', "}"), ("Ġ", '"'), (":", "Ġ")]
WIDTH = 300
"""More logits than the tokenizer has tokens, as in many models."""

EOS = 2

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", 3, None]}, "maxItems": 3},
        "size": {"anyOf": [{"type": "number", "multipleOf": 0.5, "maximum": 9}, {"type": "null"}]},
    },
    "required": ["name", "age", "size"],
    "additionalProperties": False,
}
SCHEMAS = {
    "person": PERSON,
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "v": {"type": "boolean"},
                    "sons": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
                },
                "required": ["v", "sons"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "formats": {
        "type": "object",
        "properties": {
            name: {"type": "string", "format": name, "maxLength": 40}
            for name in ("date", "uuid", "ipv4")
        },
        "required": ["date", "uuid", "ipv4"],
        "additionalProperties": False,
    },
    "pattern": {"type": "string", "pattern": "^[a-c]{2,5}-\\d$"},
    "bounded": {"type": "string", "minLength": 3, "maxLength": 5},
    "map": {
        "type": "object",
        "additionalProperties": {"type": "integer", "minimum": -5, "maximum": 5},
        "maxProperties": 3,
    },
    "patterned": {
        "type": "object",
        "patternProperties": {"^x[0-9]$": {"type": "null"}},
        "additionalProperties": False,
        "maxProperties": 3,
    },
    "merged": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}},
            {"properties": {"a": {"minimum": 7}}, "required": ["a"]},
        ],
        "additionalProperties": False,
        "properties": {"a": True},
    },
    "tuple": {
        "type": "array",
        "prefixItems": [{"const": "x"}, {"type": "boolean"}],
        "items": False,
        "minItems": 2,
    },
    "either": {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": kind}}, "required": ["k"],
             "additionalProperties": False}
            for kind in ("a", "b")
        ]
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(make_byte_level):
    return make_byte_level(MERGES)


@pytest.fixture(scope="module")
def compiler(tokenizer):
    return Compiler(lambda: tokenizer, WIDTH, lambda: {EOS})


async def write(compiler, grammar, seed=0, max_len=400, ends=True):
    """A text of random tokens that the grammar allows, and whether it came to its end."""
    sampling = SamplingConfig(grammar=grammar, temperature=1.0, seed=seed)
    sampler = Sampler(sampling, matcher=await compiler.matcher(grammar))
    noise = torch.Generator().manual_seed(seed)
    ids = [1]
    for _ in range(max_len):
        logits = torch.randn(WIDTH, generator=noise)
        token = sampler.choose(torch.tensor(ids), logits)
        if token == EOS:
            return ids[1:], True
        ids.append(token)
        if sampler.finished:
            return ids[1:], True
    return ids[1:], False


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("name", SCHEMAS)
async def test_what_comes_out_is_what_the_schema_allows(compiler, tokenizer, name, layout):
    validator = jsonschema_rs.validator_for(SCHEMAS[name], validate_formats=True)
    grammar, whole = Grammar.json_schema(SCHEMAS[name], layout), 0
    for seed in range(8):
        ids, finished = await write(compiler, grammar, seed)
        if finished:
            whole += 1
            validator.validate(json.loads(tokenizer.decode(ids)))
    assert whole >= 4


async def test_an_object_with_anything_in_it(compiler, tokenizer):
    seen = 0
    for seed in range(20):
        ids, finished = await write(compiler, Grammar.json_object(), seed)
        if finished:
            seen += 1
            assert isinstance(json.loads(tokenizer.decode(ids)), dict)
    assert seen


async def test_special_tokens_and_tokens_beyond_the_tokenizer_are_in_no_text(compiler, tokenizer):
    matcher = await compiler.matcher(Grammar.sequence(Grammar.literal("x"), Grammar.anything()))
    matcher.advance(tokenizer.convert_tokens_to_ids("x"))
    scores = matcher.mask(torch.zeros(WIDTH))
    banned = set(torch.nonzero(scores.isinf()).flatten().tolist())
    assert {0, 1} <= banned and set(range(len(tokenizer), WIDTH)) <= banned
    assert EOS not in banned and not matcher.finished


async def test_the_end_is_allowed_only_where_the_grammar_may_end(compiler, tokenizer):
    matcher = await compiler.matcher(Grammar.regex("a(bb)*"))
    ends = []
    for letter in "abbbb":
        ends.append(not matcher.mask(torch.zeros(WIDTH))[EOS].isinf())
        matcher.advance(tokenizer.convert_tokens_to_ids(letter))
    assert ends == [False, True, False, True, False]


async def test_a_model_without_an_end_ends_where_the_grammar_does(tokenizer):
    compiler = Compiler(lambda: tokenizer, WIDTH, set)
    ids, finished = await write(compiler, Grammar.json_schema(PERSON))
    assert finished and json.loads(tokenizer.decode(ids))["age"] >= 0
    matcher = await compiler.matcher(Grammar.regex("a+"))
    matcher.advance(tokenizer.convert_tokens_to_ids("a"))
    assert not matcher.finished


async def test_every_token_that_ends_a_reply_may_end_it(tokenizer):
    compiler = Compiler(lambda: tokenizer, WIDTH, lambda: {0, EOS})
    matcher = await compiler.matcher(Grammar.regex("a?"))
    scores = matcher.mask(torch.zeros(WIDTH))
    assert not scores[[0, EOS]].isinf().any() and scores[1].isinf()


async def test_what_is_forced_is_all_that_may_come(compiler, tokenizer):
    matcher = await compiler.matcher(Grammar.json_schema(PERSON))
    forced = matcher.forced()
    assert tokenizer.decode(forced).startswith('{"name')
    for token in forced:
        assert torch.nonzero(~matcher.mask(torch.zeros(WIDTH)).isinf()).flatten().tolist() == [
            token
        ]
        matcher.advance(token)


# Parts


CITY = Grammar.json_schema(
    {"type": "object", "properties": {"city": {"type": "string", "maxLength": 3}},
     "required": ["city"], "additionalProperties": False}
)  # fmt: skip
CALL = Grammar.sequence(
    Grammar.literal('{"name": "weather", "arguments": '), CITY, Grammar.literal("}</call>")
)


async def takes(compiler, tokenizer, grammar, text):
    """Whether a text is one of the grammar's; None where it is the beginning of one."""
    matcher = await compiler.matcher(grammar)
    for token in tokenizer(text)["input_ids"]:
        if matcher.finished or matcher.mask(torch.zeros(WIDTH))[token].isinf():
            return False
        matcher.advance(token)
    return True if matcher.finished or not matcher.mask(torch.zeros(WIDTH))[EOS].isinf() else None


FULL = '<call>{"name": "weather", "arguments": {"city": "ab"}}</call>'
MUST = Grammar.repeat(Grammar.sequence(Grammar.marker("<call>"), CALL), 1)


@pytest.mark.parametrize(
    ("grammar", "text", "expected"),
    [
        (Grammar.calls("<call>", CALL), "hello", True),
        (Grammar.calls("<call>", CALL), f"hello {FULL}", True),
        (Grammar.calls("<call>", CALL), f"{FULL} and {FULL} bye", True),
        (Grammar.calls("<call>", CALL), f"hm {FULL[:50]}", None),
        (Grammar.calls("<call>", CALL), "hm <call>nothing", False),
        (Grammar.calls("<call>", CALL, least=1), "hello", None),
        (Grammar.calls("<call>", CALL, least=1), f"hello {FULL}", True),
        (Grammar.calls("<call>", CALL, most=1), f"{FULL} bye <ca", True),
        (Grammar.calls("<call>", CALL, most=1), f"{FULL} {FULL}", False),
        (MUST, "hello", False),
        (MUST, FULL + FULL, True),
        (Grammar.choice(Grammar.regex("[^<]+(?s:.*)"), MUST), "hello <call>", True),
        (Grammar.choice(Grammar.regex("[^<]+(?s:.*)"), MUST), "<other", False),
        (Grammar.choice(Grammar.regex("[^<]+(?s:.*)"), MUST), FULL, True),
        (Grammar.literal('q"\n\\/'), 'q"\n\\/', True),
        (Grammar.regex("a/b|c\n"), "a/b", True),
        (Grammar.lark('start: "a" /b+/'), "abb", True),
        (Grammar.sequence(Grammar.lark('start: "a" /b+/'), Grammar.literal("!")), "abb!", True),
        (Grammar.repeat(Grammar.literal("ab"), 2, 3), "ab", None),
        (Grammar.repeat(Grammar.literal("ab"), 2, 3), "ababab", True),
        (Grammar.repeat(Grammar.literal("ab"), 2, 3), "abababab", False),
        (Grammar.anything(without="cd"), "abc", True),
        (Grammar.anything(without="cd"), "abcd", False),
    ],
)  # fmt: skip
async def test_grammars_are_made_of_grammars(compiler, tokenizer, grammar, text, expected):
    assert await takes(compiler, tokenizer, grammar, text) is expected


async def test_a_marker_is_a_special_token_where_there_is_one(compiler, tokenizer):
    matcher = await compiler.matcher(Grammar.marker("<pad>"))
    assert matcher.forced() == [tokenizer.pad_token_id]
    matcher.advance(tokenizer.pad_token_id)
    assert matcher.finished
    matcher = await compiler.matcher(Grammar.sequence(Grammar.until("<pad>"), Grammar.literal("!")))
    for token in [*tokenizer("hi")["input_ids"], tokenizer.pad_token_id]:
        matcher.advance(token)
    assert tokenizer.decode(matcher.forced()) == "!"


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (Grammar.regex("(a"), "unclosed group"),
        (Grammar.regex("(?=a)b"), "look-around"),
        (Grammar.lark("start: nothing"), "nothing"),
        (Grammar.lark("start: <|unheard|>"), "unheard"),
        (Grammar.literal(""), "nothing but the empty text"),
        (Grammar.json_schema({"type": "string", "pattern": "^(ab$"}), "unclosed group"),
    ],
)
async def test_what_cannot_be_followed_is_refused(compiler, grammar, message):
    with pytest.raises(RequestError, match=message):
        await compiler.matcher(grammar)


def test_equal_grammars_are_one():
    first, second = Grammar.json_schema(PERSON), Grammar.json_schema(dict(PERSON))
    assert first == second and len({first, second}) == 1
    assert Grammar.json_schema(PERSON, Layout.COMPACT) != first


def test_a_grammar_and_no_end_exclude_each_other():
    with pytest.raises(RequestError, match="ignore_eos"):
        SamplingConfig(grammar=Grammar.json_object(), ignore_eos=True)


async def test_without_the_library_it_says_what_to_install(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    compiler = Compiler(lambda: tokenizer, WIDTH, lambda: {EOS})
    with pytest.raises(ConfigError, match="pip install llguidance"):
        await compiler.matcher(Grammar.json_object())


async def test_the_newest_grammars_are_kept(compiler, monkeypatch):
    monkeypatch.setattr("swarm.client.grammar.compiler.MAX_KEPT", 2)
    compiled = []
    monkeypatch.setattr(compiler, "_kept", type(compiler._kept)())
    plain = compiler._compile
    monkeypatch.setattr(compiler, "_compile", lambda g: compiled.append(g.text) or plain(g))
    for text in "abacab":
        await compiler.matcher(Grammar.literal(text))
    assert compiled == ["a", "b", "c", "b"]
