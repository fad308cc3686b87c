"""What a gateway says is what the client from Python says who asks for the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from swarm.client import ModelOptions, RemoteModel, SamplingConfig, Swarm

PROMPT = "The bees are the bees, and the bees are"
COUNT = 12

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(shared: Any) -> AsyncIterator[RemoteModel]:
    """The same model, opened from Python."""
    async with Swarm.join(shared.processes.invite) as swarm:
        options = ModelOptions(dtype="float32")
        yield await swarm.model(str(shared.processes.model), options)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"temperature": 0, "presence_penalty": 2},
        {"temperature": 0, "frequency_penalty": 2},
        {"temperature": 0, "frequency_penalty": -2},
        {"temperature": 1, "seed": 11},
        {"temperature": 1.7, "seed": 12, "presence_penalty": 1, "frequency_penalty": 0.5},
        {"temperature": 0.6, "seed": 13},
        {"temperature": 2, "seed": 14, "top_p": 0.5},
        {"temperature": 0, "stop": ["bees"]},
    ],
    ids=str,
)
async def test_completions(
    model: RemoteModel, program: openai.OpenAI, fields: dict[str, Any]
) -> None:
    same: dict[str, Any] = fields | ({"stop": tuple(fields["stop"])} if "stop" in fields else {})
    sampling = SamplingConfig(max_new_tokens=COUNT, logprobs=2, **same)
    reply = await model.generate(PROMPT, raw=True, sampling=sampling)
    answer = program.completions.create(
        model="smol", prompt=PROMPT, max_tokens=COUNT, logprobs=2, **fields
    )
    (choice,) = answer.choices
    assert choice.text == reply.text
    assert choice.logprobs is not None and choice.logprobs.token_logprobs is not None
    found = choice.logprobs.token_logprobs
    expected = [reply.scores[index].logprob for index in range(len(found))]
    assert found == pytest.approx(expected, abs=1e-3)


async def test_a_biased_chat(model: RemoteModel, program: openai.OpenAI, tokenizer: Any) -> None:
    talk: Any = [{"role": "user", "content": "Tell a story."}]
    (bee,) = tokenizer.encode(" bee")
    sampling = SamplingConfig(COUNT, temperature=1, seed=3, logit_bias=((bee, 6.5),), logprobs=3)
    reply = await model.generate(talk, sampling=sampling)
    answer = program.chat.completions.create(
        model="smol",
        messages=talk,
        max_tokens=COUNT,
        temperature=1,
        seed=3,
        logit_bias={str(bee): 6.5},  # type: ignore[dict-item]
        logprobs=True,
        top_logprobs=3,
    )
    (choice,) = answer.choices
    assert choice.message.content == reply.text
    assert answer.usage is not None and answer.usage.prompt_tokens == len(reply.prompt_ids)
    assert choice.logprobs is not None and choice.logprobs.content is not None
    for index, entry in enumerate(choice.logprobs.content):
        score = reply.scores[index]
        assert entry.logprob == pytest.approx(score.logprob, abs=1e-3)
        expected = [logprob for _, logprob in score.top]
        assert [top.logprob for top in entry.top_logprobs] == pytest.approx(expected, abs=1e-3)
