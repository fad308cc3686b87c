"""The golden rule with a real model: SmolLM2-135M through 1, 3 and 30 peers, in float32."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from swarm.cli.demo import demonstration_model
from swarm.client import RowInput
from swarm.errors import ConfigError

NUM_TOKENS = 32
QUESTIONS = (
    "Why is the sky blue?",
    "Write a short poem about a garage full of old computers.",
    "List three uses of a paper clip.",
)


@pytest.fixture(scope="module")
def model_file():
    try:
        return demonstration_model()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def expected(model_file):
    """Prompts and transformers' own greedy tokens for them, from transformers' own reader."""
    source = {"gguf_file": model_file.name}
    tokenizer = AutoTokenizer.from_pretrained(model_file.parent, **source)
    model = AutoModelForCausalLM.from_pretrained(
        model_file.parent, dtype=torch.float32, **source
    ).eval()
    answers = []
    for question in QUESTIONS:
        talk = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=True)
        prompt = torch.tensor([ids["input_ids"]])
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NUM_TOKENS,
            min_new_tokens=NUM_TOKENS,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            repetition_penalty=1.0,
        )
        answers.append((ids["input_ids"], out[0, prompt.shape[1] :].tolist()))
    return answers


async def greedy(model, prompt, count):
    """`count` greedy tokens after `prompt`, through the swarm."""
    ids, position = [], 0
    fresh = torch.tensor(prompt)
    async with model.session() as session:
        while len(ids) < count:
            (last,) = await session.step([RowInput(0, position, model.head.embed(fresh))])
            position += len(fresh)
            fresh = model.head.logits(last).argmax(-1)
            ids.append(int(fresh))
    return ids


@pytest.mark.timeout(600)
@pytest.mark.parametrize("num_peers", [1, 3, 30])
async def test_greedy_tokens_are_transformers_own(make_world, model_file, expected, num_peers):
    world = make_world(SimpleNamespace(folder=model_file))
    borders = [30 * n // num_peers for n in range(num_peers + 1)]
    for number, blocks in enumerate(pairwise(borders)):
        await world.peer(f"peer-{number}", blocks, kv_memory=64 << 20, page_len=32)
    model = await world.client()
    for prompt, answer in expected:
        assert await greedy(model, prompt, NUM_TOKENS) == answer
    chosen = [expected[n % len(expected)] for n in range(8)]
    together = await asyncio.gather(*(greedy(model, prompt, NUM_TOKENS) for prompt, _ in chosen))
    assert together == [answer for _, answer in chosen]
