"""Has a model of a swarm write one of `speculation_texts.py`."""

from __future__ import annotations

from typing import Any

import torch
from speculation_texts import Text

from swarm.client import RemoteModel, Reply, SamplingConfig, SpeculationConfig
from swarm.client.sampling import Sampler


class Dictated(Sampler):
    """Says given tokens, whatever the model would say."""

    def __init__(self, config: SamplingConfig, prompt_len: int, tokens: list[int]) -> None:
        super().__init__(config)
        self._prompt_len = prompt_len
        self._tokens = tokens

    def choose(self, ids: torch.Tensor, logits: torch.Tensor) -> int:
        """The next of the tokens."""
        super().choose(ids, logits)  # Takes its time, too.
        return self._tokens[len(ids) - self._prompt_len]


async def write(
    model: RemoteModel, text: Text, num_tokens: int, speculation: SpeculationConfig
) -> Reply:
    """The whole reply, or the first `num_tokens` of it."""
    reply = await model.prepare(text.prompt, raw=text.raw)
    options: dict[str, Any] = dict(text.sampling)
    if text.answer is not None:
        dictated = [int(token) for token in model.tokenizer(text.answer)["input_ids"]]
        options |= {"max_new_tokens": min(num_tokens, len(dictated)), "ignore_eos": True}
        sampling = SamplingConfig(**options)
        reply = Reply(
            reply.prompt_ids, _sampler=Dictated(sampling, len(reply.prompt_ids), dictated)
        )
    else:
        sampling = SamplingConfig(max_new_tokens=num_tokens, **options)
    async for _ in model.reply(reply, sampling, speculation):
        pass
    return reply
