"""What callers ask of a reply besides its tokens, exact whatever dies on the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from swarm.client import Reply, SamplingConfig, SpeculationConfig
from swarm.client.config import SessionConfig
from swarm.wire.messages import Step

pytestmark = pytest.mark.simulated_time

LONG = [(7 * i * i + 11 * i) % 290 + 5 for i in range(150)]


def asked(**options: Any) -> SamplingConfig:
    """The tiny model has no tokenizer, and no token that ends a reply."""
    return SamplingConfig(ignore_eos=True, **options)


async def write(
    model: Any,
    reply: Reply,
    sampling: SamplingConfig,
    speculation: int = 0,
    on_token: Any = None,
) -> Reply:
    """Goes on with a reply, without its text."""
    async with model.session() as session:
        guesses = SpeculationConfig(speculation)
        async for _ in model._tokens(session, reply, sampling, guesses):
            if on_token is not None:
                await on_token(len(reply.ids))
    return reply


def check(scores: Any, logits: torch.Tensor, tokens: list[int], num_top: int) -> None:
    """Scores are those of `logits` `[n, vocab_size]`."""
    expected = torch.log_softmax(logits.float(), -1)
    for score, row, token in zip(scores, expected, tokens, strict=True):
        assert score.logprob == pytest.approx(float(row[token]), abs=1e-3)
        best = row.topk(num_top).values.tolist()
        assert [value for _, value in score.top] == pytest.approx(best, abs=1e-3)
        assert [float(row[i]) for i, _ in score.top] == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("guesses", [0, 4])
async def test_penalties_biases_and_scores_when_a_peer_dies(world, guesses):
    await world.chain(0, 2, 4)
    await world.spare((0, 2), (2, 4))
    model = await world.client()
    options = asked(
        max_new_tokens=24,
        temperature=0.9,
        seed=11,
        presence_penalty=0.6,
        frequency_penalty=0.4,
        logit_bias=((17, 3.0), (40, -100.0)),
        logprobs=3,
    )
    prompt = [1, 17, 33, 4, 99, 17, 33, 4]
    calm = await write(model, Reply(prompt), options)

    async def on_token(count: int) -> None:
        if count in (6, 15):
            await world.kill("peer-1" if count == 6 else "peer-0")

    reply = await write(model, Reply(prompt), options, guesses, on_token)
    assert reply.num_recoveries >= 2 and reply.ids == calm.ids
    logits = world.tiny.logits([*prompt, *reply.ids])[len(prompt) - 1 : -1]
    check([reply.scores[i] for i in range(24)], logits, reply.ids, 3)


async def test_prompt_scores_though_peers_have_kept_it_and_one_dies(world):
    await world.chain(0, 2, 4)
    await world.spare((2, 4))
    model = await world.client(config=SessionConfig(chunk_len=16))
    plain = await write(model, Reply(list(LONG)), asked(max_new_tokens=4))
    again = await write(model, Reply(list(LONG)), asked(max_new_tokens=4))
    assert again.num_cached == 128 and again.ids == plain.ids
    watch, num_steps = world.watch(), 0

    def dies(frame: Any) -> bool:
        nonlocal num_steps
        num_steps += isinstance(frame.message, Step) and frame.receiver == "peer-1"
        return frame.receiver == "peer-1" and num_steps > 4

    watch.drops = dies
    await world.show()
    scoring = asked(max_new_tokens=4, prompt_logprobs=2)
    reply = await write(model, Reply(list(LONG)), scoring)
    assert reply.num_recoveries and reply.num_cached == 0 and reply.ids == plain.ids
    check(reply.prompt_scores, world.tiny.logits(LONG)[:-1], LONG[1:], 2)


async def test_scoring_alone_leaves_a_prompt_for_others(world):
    await world.chain(0, 2, 4)
    model = await world.client()
    scoring = asked(max_new_tokens=0, prompt_logprobs=0)
    reply = await write(model, Reply(list(LONG)), scoring)
    assert reply.ids == [] and reply.finish == "length"
    check(reply.prompt_scores, world.tiny.logits(LONG)[:-1], LONG[1:], 0)
    after = await write(model, Reply(list(LONG)), asked(max_new_tokens=4))
    assert after.num_cached == 128 and after.ids == world.tiny.greedy(LONG, 4)


@pytest.fixture
def words() -> PreTrainedTokenizerFast:
    """A tokenizer for the tiny model: each token is a word."""
    vocabulary = {f"w{token}": token for token in range(300)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "w0")))


@pytest.fixture
async def worded(world, words):
    """A client of two peers and two spares, whose checkpoint has a tokenizer."""
    world.checkpoint._tokenizer = words
    await world.chain(0, 2, 4, kv_memory=8 << 20)
    await world.spare((0, 2), (2, 4))
    return await world.client()


async def choose(
    model: Any, replies: list[Reply], sampling: SamplingConfig, on_piece: Any = None
) -> list[str]:
    """The texts of all choices, put together from their pieces."""
    texts = [""] * len(replies)
    async for index, piece in model.choices(replies, sampling, SpeculationConfig(0)):
        texts[index] += piece.text if piece else ""
        if on_piece is not None:
            await on_piece()
    return texts


async def test_the_prompt_of_several_choices_is_computed_once(world, worded):
    prompt = [(7 * i * i + 11 * i) % 290 + 5 for i in range(490)]
    sampling = asked(max_new_tokens=8, temperature=1.0, seed=5)
    replies, watch = [Reply(prompt) for _ in range(4)], world.watch()
    texts = await choose(worded, replies, sampling)
    sent = dict.fromkeys(("peer-0", "peer-1"), 0)
    for frame in watch.frames:
        if isinstance(frame.message, Step) and frame.receiver in sent:
            sent[frame.receiver] += sum(span.count for span in frame.message.rows)
    # The last unit of 32 is each one's own, and so are the tokens of its reply but the last.
    expected = 490 + 3 * (490 - 480) + 4 * 7
    assert sent == {"peer-0": expected, "peer-1": expected}
    assert [reply.num_cached for reply in replies] == [0, 480, 480, 480]
    assert texts == [reply.text for reply in replies]
    for index, reply in enumerate(replies):
        alone = asked(max_new_tokens=8, temperature=1.0, seed=5 + index)
        assert (await write(worded, Reply(prompt), alone)).ids == reply.ids


async def test_choices_outlive_peers(world, worded):
    sampling = asked(max_new_tokens=20, temperature=1.0, seed=3, frequency_penalty=0.5)
    calm = [Reply(LONG) for _ in range(3)]
    texts = await choose(worded, calm, sampling)
    num_pieces = 0

    async def on_piece() -> None:
        nonlocal num_pieces
        num_pieces += 1
        if num_pieces in (8, 30):
            await world.kill("peer-0" if num_pieces == 8 else "peer-1")

    replies = [Reply(LONG) for _ in range(3)]
    assert await choose(worded, replies, sampling, on_piece) == texts
    assert [reply.ids for reply in replies] == [reply.ids for reply in calm]
    assert num_pieces > 30 and sum(reply.num_recoveries for reply in replies) >= 4


async def test_who_stops_reading_choices_frees_their_sessions(world, worded):
    stream = worded.choices([Reply(LONG) for _ in range(3)], asked(max_new_tokens=50))
    for _ in range(6):
        await anext(stream)
    await stream.aclose()
    await world.settle()
