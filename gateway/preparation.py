"""From what is asked to what the model reads: templates, tools, limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from swarm.client import RemoteModel, SamplingConfig

from .ask import Ask, Prompt, Talk, Text, Tokens
from .reading import PlainReading, Reading
from .refusals import TooLong


@dataclass(frozen=True)
class Prepared:
    """What a model is given: the prompt's token ids, how to sample, and how to read a choice."""

    ids: list[int]
    sampling: SamplingConfig
    reading: Callable[[int], Reading]


def prepare(model: RemoteModel, ask: Ask) -> Prepared:
    """Takes some milliseconds, and seconds where a tokenizer is read: not on an event loop.

    Raises `Refusal` and `RequestError` for what this model cannot do.
    """
    ids = prompt_ids(model, ask.prompt)
    return Prepared(ids, _fitted(model, ask, len(ids)), PlainReading)


def prompt_ids(model: RemoteModel, prompt: Prompt) -> list[int]:
    """A prompt as the model reads it; as slow as `prepare`, and raises the same."""
    match prompt:
        case Talk(messages):
            return model.encode([dict(message) for message in messages])
        case Text(text):
            return model.encode(text, raw=True)
        case Tokens(given):
            return list(given)


def _fitted(model: RemoteModel, ask: Ask, num_prompt: int) -> SamplingConfig:
    """The sampling, with as many tokens as were asked for or the model's context has room for."""
    limit = model.key.context_length
    sampling = ask.sampling
    wanted = sampling.max_new_tokens if ask.bounded else 1
    if limit and num_prompt + wanted > limit:
        param = "messages" if isinstance(ask.prompt, Talk) else "prompt"
        raise TooLong(num_prompt, wanted, limit, param=param)
    if ask.bounded or not limit:
        return sampling
    return replace(sampling, max_new_tokens=limit - num_prompt)
