"""What callers ask of a reply besides its tokens, exact whatever dies on the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
