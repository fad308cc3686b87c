"""A reply keeps to its grammar, with guesses and without, whatever dies on its way."""

from __future__ import annotations

import json
from contextlib import aclosing

import jsonschema_rs
import pytest

from swarm.client import Finish, Grammar, Reply, SamplingConfig, SpeculationConfig
from swarm.client.config import SessionConfig
from swarm.errors import NoRouteError, RequestError

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
PEERS = ["peer-0", "peer-1", "peer-2"]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8, "pattern": "^[a-z]*$"},
        "numbers": {"type": "array", "items": {"type": "integer", "maximum": 99}, "maxItems": 3},
        "kind": {"enum": ["large", "little", None]},
        "more": {"anyOf": [{"$ref": "#/properties/kind"}, {"type": "boolean"}]},
    },
    "required": ["name", "numbers", "kind", "more"],
    "additionalProperties": False,
}
JSON = Grammar.json_schema(SCHEMA)
SAMPLED = {"temperature": 0.9, "top_k": 40, "repetition_penalty": 1.2, "seed": 5}
OFF = SpeculationConfig(0)
MERGES = [("{", '"'), ('"', ":"), ("l", "i"), ("n", "a"), ("na", "m"), ("Ġ", '"'), (":", "Ġ")]
"""Of a tokenizer with a few longer tokens, beyond whose ends the model's head goes."""


@pytest.fixture
async def three(make_tiny, make_world, make_byte_level):
    """Peers for blocks 0:1, 1:3 and 3:4 of a model with a tokenizer."""
    tiny = make_tiny("llama", eos_token_id=2)
    if not (tiny.folder / "tokenizer.json").exists():
        make_byte_level(MERGES).save_pretrained(tiny.folder)
    world = make_world(tiny)
    await world.chain(0, 1, 3, 4)
    return world


def sampling(**options):
    return SamplingConfig(**{"max_new_tokens": 200, "grammar": JSON, **options})


async def write(model, reply, options, speculation=None, on_piece=None):
    """Fills a reply, and calls `on_piece` after each piece of text."""
    async with aclosing(model.reply(reply, options, speculation)) as pieces:
        async for _ in pieces:
            if on_piece is not None:
                await on_piece(len(reply.ids))
    return reply


@pytest.mark.parametrize("options", [{}, SAMPLED, {"temperature": 3.0, "seed": 1}], ids=str)
async def test_the_reply_is_the_same_with_and_without_guesses(three, options):
    model, replies = await three.client(), []
    for speculation in (OFF, None, SpeculationConfig(1), SpeculationConfig(20)):
        reply = await write(model, Reply(list(PROMPT)), sampling(**options), speculation)
        replies.append(reply)
        assert reply.finish is Finish.EOS
        jsonschema_rs.validator_for(SCHEMA).validate(json.loads(reply.text))
    off, *_, forced = replies
    assert all(reply.ids == off.ids and reply.text == off.text for reply in replies)
    assert forced.num_steps < off.num_steps / 2 and off.num_steps == len(off.ids) - 1


async def test_no_guess_that_a_grammar_forces_is_wrong(three):
    model = await three.client()
    exact = Grammar.json_schema({"const": {"name": "little", "numbers": [1, 2], "kind": "large"}})
    options = sampling(grammar=exact)
    reply = await write(model, Reply(list(PROMPT)), options, SpeculationConfig(63))
    assert reply.text == '{"name": "little", "numbers": [1, 2], "kind": "large"}'
    # The prompt brings the first token, one window all others; after the last nothing is asked.
    assert reply.num_steps == 1 and reply.num_accepted == reply.num_drafted - 1


async def test_the_end_comes_without_a_token_of_its_own(three):
    model = await three.client()
    options = sampling(grammar=Grammar.literal("li"))
    reply = await write(model, Reply(list(PROMPT)), options)
    assert (reply.text, reply.finish, len(reply.ids)) == ("li", Finish.EOS, 1)


async def test_a_reply_that_becomes_too_long_is_a_beginning(three):
    model = await three.client()
    reply = await write(model, Reply(list(PROMPT)), sampling(max_new_tokens=5))
    whole = await write(model, Reply(list(PROMPT)), sampling())
    assert reply.finish is Finish.LENGTH and whole.text.startswith(reply.text) and reply.text


async def test_a_stop_string_ends_a_grammars_text_too(three):
    model = await three.client()
    reply = await write(model, Reply(list(PROMPT)), sampling(stop=('"num',)))
    assert reply.finish is Finish.STOP and reply.text.endswith(", ")


@pytest.mark.parametrize("victim", PEERS)
@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["greedy", "sampled"])
async def test_killed_in_the_middle(three, victim, options):
    await three.spare((0, 4))
    model = await three.client()
    expected = await write(model, Reply(list(PROMPT)), sampling(**options), OFF)

    killed = []

    async def on_piece(number):
        if number >= 9 and not killed:
            killed.append(number)
            await three.kill(victim)

    reply = await write(model, Reply(list(PROMPT)), sampling(**options), None, on_piece)
    assert reply.ids == expected.ids and reply.num_recoveries >= 1 and killed


@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["greedy", "sampled"])
async def test_a_reply_that_was_cut_short_goes_on_where_it_was(three, options):
    model = await three.client(config=SessionConfig(route_patience=1))
    expected = await write(model, Reply(list(PROMPT)), sampling(**options), OFF)
    reply = Reply(list(PROMPT))

    async def on_piece(number):
        if number >= 9:
            await three.kill("peer-1")

    with pytest.raises(NoRouteError):
        await write(model, reply, sampling(**options), None, on_piece)
    assert 9 <= len(reply.ids) < len(expected.ids)
    await three.peer("other", (1, 3))
    await write(model, reply, sampling(**options))
    assert reply.ids == expected.ids and reply.text == expected.text


async def test_a_reply_goes_on_from_its_tokens_alone(three):
    """As a program does that was started again."""
    model = await three.client()
    expected = await write(model, Reply(list(PROMPT)), sampling(), OFF)
    reply = Reply(list(PROMPT), ids=expected.ids[:9])
    await write(model, reply, sampling())
    assert reply.ids == expected.ids
    foreign = Reply(list(PROMPT), ids=[*expected.ids[:3], 7])
    with pytest.raises(RequestError, match="grammar"):
        await write(model, foreign, sampling())


async def test_a_grammar_that_is_refused_opens_no_session(three):
    model, watch = await three.client(), three.watch()
    with pytest.raises(RequestError, match="unclosed"):
        await model.generate("x", raw=True, grammar=Grammar.regex("(a"))
    assert not watch.frames
