"""What `<call>` may be to a tokenizer: a special token, another one, or several; grammars agree."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from swarm.client.grammar import Grammar, Layout
from swarm.client.grammar.compiler import Compiler
from swarm.errors import RequestError

MERGES = [("{", '"'), ('"', "}"), ("l", "l"), ("<", "c"), ("Ġ", '"'), ("a", "l")]
WORDS = ["▁Hello", "▁", "<", "c", "a", "l", "ll", ">", "all", "/", "{", "}", '"', ":", "x", "."]
KINDS = {
    "special": lambda tokenizer: tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<call>", "</call>"]}
    ),
    "added": lambda tokenizer: tokenizer.add_tokens(["<call>", "</call>"]),
    "spelled": lambda tokenizer: None,
}
EOS = 2
CALL = {"type": "object", "properties": {"x": {"const": "a</call><call>"}}, "required": ["x"]}
CALL |= {"additionalProperties": False}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=["bytes", "pieces"])
def tokenizer(request, kind, make_byte_level, make_sentence_pieces):
    made = make_byte_level(MERGES) if request.param == "bytes" else make_sentence_pieces(WORDS)
    KINDS[kind](made)
    return made


@pytest.fixture
def follow(tokenizer):
    """Follows a grammar; `size` is how many tokens have logits."""

    async def following(grammar, size=400):
        return await Compiler(lambda: tokenizer, size, lambda: [EOS]).matcher(grammar)

    return following


def allowed(matcher, size=400) -> set[int]:
    return set(torch.nonzero(matcher.mask(torch.zeros(size)).isfinite())[:, 0].tolist())


def take(matcher, ids) -> None:
    for token in ids:
        assert token in allowed(matcher), f"{token} may not come"
        matcher.advance(token)


def spelled(tokenizer, text) -> list[int]:
    """Tokens of one letter."""
    return [tokenizer.convert_tokens_to_ids(letter) for letter in text]


def plain(tokenizer, kind, text) -> list[int]:
    """As the tokenizer cuts a text in which no special token is meant."""
    tokenizer.backend_tokenizer.encode_special_tokens = True
    ids = tokenizer.backend_tokenizer.encode(f".{text}", add_special_tokens=False).ids
    tokenizer.backend_tokenizer.encode_special_tokens = False
    (dot,) = spelled(tokenizer, ".")
    return ids[ids.index(dot) + 1 :]


def mark(tokenizer, kind, name) -> list[int]:
    """As a model writes it."""
    return (
        plain(tokenizer, kind, name)
        if kind == "spelled"
        else [tokenizer.convert_tokens_to_ids(name)]
    )


async def test_a_marker_is_the_token_where_there_is_one(follow, tokenizer, kind):
    matcher = await follow(Grammar.sequence(Grammar.marker("<call>"), Grammar.literal("x")))
    forced = matcher.forced()
    assert forced[: len(mark(tokenizer, kind, "<call>"))] == mark(tokenizer, kind, "<call>")
    take(matcher, [*mark(tokenizer, kind, "<call>"), *spelled(tokenizer, "x")])
    assert matcher.finished


async def test_all_that_is_forced_may_come_and_is_how_the_model_reads_it(follow, tokenizer, kind):
    text = 'x<call>{"x":"a</call><call>"}</call>'
    matcher = await follow(Grammar.literal(text))
    forced = matcher.forced()
    ids = plain(tokenizer, kind, text)
    # The last token may yet become a longer one.
    assert forced and forced == ids[: len(forced)] and len(forced) >= len(ids) - 1
    take(matcher, ids)
    assert matcher.finished


async def test_a_name_in_a_string_of_json_is_text(follow, tokenizer, kind):
    arguments = Grammar.json_schema(CALL, Layout.COMPACT)
    inner = Grammar.sequence(arguments, Grammar.marker("</call>"))
    matcher = await follow(Grammar.calls("<call>", inner, least=1, most=1))
    take(matcher, [*spelled(tokenizer, "xx"), *mark(tokenizer, kind, "<call>")])
    take(matcher, plain(tokenizer, kind, '{"x":"a</call><call>"}'))
    take(matcher, mark(tokenizer, kind, "</call>"))
    assert EOS in allowed(matcher)


async def test_free_text_in_which_no_call_may_begin(follow, tokenizer, kind):
    matcher = await follow(Grammar.anything(without="<call>"))
    take(matcher, spelled(tokenizer, "x<call"))
    token = tokenizer.convert_tokens_to_ids("<call>")
    assert kind == "spelled" or token not in allowed(matcher)
    # Spelled in letters it is a call unless the token is what begins one.
    assert (spelled(tokenizer, ">")[0] in allowed(matcher)) is (kind == "special")


async def test_any_json_string_may_hold_the_name(follow, tokenizer, kind):
    matcher = await follow(Grammar.json_schema({"type": "string"}))
    take(matcher, spelled(tokenizer, '"'))
    token = tokenizer.convert_tokens_to_ids("<call>")
    if kind != "spelled":
        assert (token in allowed(matcher)) is (kind == "added")
    take(matcher, [*plain(tokenizer, kind, "x<call></call>x"), *spelled(tokenizer, '"')])
    assert matcher.finished


async def test_a_token_without_logits_never_comes(make_byte_level):
    tokenizer = make_byte_level(MERGES)
    tokenizer.add_tokens(["<call>"])
    size = tokenizer.convert_tokens_to_ids("<call>")
    compiler = Compiler(lambda: tokenizer, size, lambda: [EOS])
    matcher = await compiler.matcher(Grammar.literal("x<call>x"))
    assert "".join(tokenizer.convert_ids_to_tokens(matcher.forced())) == "x<call>x"


async def test_a_normalizer_that_changes_a_text_does_not_change_what_is_forced(make_byte_level):
    tokenizer = make_byte_level(MERGES)
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFC()])
    text = "e\u0301x"
    matcher = await Compiler(lambda: tokenizer, 400, lambda: [EOS]).matcher(Grammar.literal(text))
    take(matcher, matcher.forced())
    while not matcher.finished:
        take(matcher, [min(allowed(matcher))])


async def test_no_space_is_put_before_what_is_forced(make_byte_level):
    tokenizer = make_byte_level(MERGES)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    matcher = await Compiler(lambda: tokenizer, 400, lambda: [EOS]).matcher(Grammar.literal("all."))
    assert tokenizer.convert_ids_to_tokens(matcher.forced()) == ["a", "ll", "."]


async def test_what_no_token_has_letters_for_is_refused():
    words = [("<unk>", 0.0), ("</s>", 0.0), ("x", -1.0), ("▁", -2.0)]
    made = Tokenizer(models.Unigram(words))  # which fails at others: it has no token for them
    made.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")
    compiler = Compiler(lambda: tokenizer, 4, lambda: [1])
    matcher = await compiler.matcher(Grammar.literal("x x"))
    assert matcher.forced()[:2] == [2, 3]
    with pytest.raises(RequestError, match="grammar"):
        matcher = await compiler.matcher(Grammar.literal("xЖx"))
        for token in matcher.forced() or [2]:
            matcher.advance(token)
