"""From what is asked to what the model reads: templates, tools, limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from swarm.client import RemoteModel, SamplingConfig

from .ask import Ask, Prompt, Talk, Text, Tokens
from .reading import PlainReading, Reading
from .refusals import Reason, Refusal, TooLong


@dataclass(frozen=True)
class Prepared:
    """What a model is given: the prompt's token ids, how to sample, and how to read a choice.

    Of `num_replies`, the `num_choices` likeliest are told. With `echo` the prompt is told before
    each; where they are `silent`, it is all that is told.
    """

    ids: list[int]
    sampling: SamplingConfig
    reading: Callable[[int], Reading]
    num_choices: int = 1
    num_replies: int = 1
    echo: bool = False
    silent: bool = False


def prepare(model: RemoteModel, ask: Ask) -> Prepared:
    """Takes some milliseconds, and seconds where a tokenizer is read: not on an event loop.

    Raises `Refusal` and `RequestError` for what this model cannot do.
    """
    ids = prompt_ids(model, ask.prompt)
    sampling = _fitted(model, ask, len(ids))
    num_replies = max(ask.num_choices, ask.best_of or 0)
    return Prepared(ids, sampling, PlainReading, ask.num_choices, num_replies, ask.echo, ask.silent)


def prompt_ids(model: RemoteModel, prompt: Prompt) -> list[int]:
    """A prompt as the model reads it; as slow as `prepare`, and raises the same."""
    match prompt:
        case Talk(messages):
            return model.encode([dict(message) for message in messages])
        case Text(text):
            return model.encode(text, raw=True)
        case Tokens(given):
            _check_known(model, given)
            return list(given)


def _check_known(model: RemoteModel, ids: Sequence[int]) -> None:
    if (largest := max(ids)) >= (size := model.head.vocab_size):
        text = f"there is no token {largest}: this model knows {size}"
        raise Refusal(Reason.INVALID, text, param="prompt")


def _fitted(model: RemoteModel, ask: Ask, num_prompt: int) -> SamplingConfig:
    """The sampling, with as many tokens as were asked for or the model's context has room for."""
    limit = model.key.context_length
    sampling = ask.sampling
    wanted = 0 if ask.silent else sampling.max_new_tokens if ask.bounded else 1
    if limit and num_prompt + wanted > limit:
        param = "messages" if isinstance(ask.prompt, Talk) else "prompt"
        raise TooLong(num_prompt, wanted, limit, param=param)
    if ask.bounded or not limit:
        return sampling
    return replace(sampling, max_new_tokens=limit - num_prompt)
