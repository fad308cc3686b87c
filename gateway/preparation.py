"""From what is asked to what the model reads: templates, tools, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from swarm.client import RemoteModel, SamplingConfig

from .ask import Ask, Prompt, Talk, Text, Tokens, ToolUse
from .conversation import encode
from .manners import manners
from .reading import PlainReading, Reading
from .refusals import Reason, Refusal, TooLong
from .tools.constraint import Constraint, object_schema
from .tools.reading import CallReading, Manner

_TAIL = 32
"""Tokens of a prompt in whose end a thought may begin."""


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
    reading: Callable[[int], Reading] = PlainReading
    if isinstance(ask.prompt, Talk) and (ask.prompt.tools or manners(model).syntax.words):
        sampling, reading = _calling(model, ask.prompt, ids, sampling)
    num_replies = max(ask.num_choices, ask.best_of or 0)
    return Prepared(ids, sampling, reading, ask.num_choices, num_replies, ask.echo, ask.silent)


def prompt_ids(model: RemoteModel, prompt: Prompt) -> list[int]:
    """A prompt as the model reads it; as slow as `prepare`, and raises the same."""
    match prompt:
        case Talk():
            return encode(manners(model), prompt)
        case Text(""):
            raise Refusal(Reason.INVALID, "the prompt is empty", param="prompt")
        case Text(text):
            return model.encode(text, raw=True)
        case Tokens(given):
            _check_known(model, given, "prompt")
            return list(given)


def _check_known(model: RemoteModel, ids: Iterable[int], param: str) -> None:
    if (largest := max(ids, default=-1)) >= (size := model.head.vocab_size):
        text = f"there is no token {largest}: this model knows {size}"
        raise Refusal(Reason.INVALID, text, param=param)


def _calling(
    model: RemoteModel, talk: Talk, ids: list[int], sampling: SamplingConfig
) -> tuple[SamplingConfig, Callable[[int], Reading]]:
    """How to sample and read where a reply may be more than words: calls, or markup in any case."""
    known = manners(model)
    is_thinking = _is_thinking(model, ids) if known.syntax.thoughts else False
    constraint = Constraint(
        known.syntax, talk.tools, talk.tool_choice, sampling.grammar, is_thinking
    )
    use = talk.tool_choice.use
    # Only a fast tokenizer can be held to a grammar; and free text has no markup of its own.
    is_free = model.tokenizer.is_fast and not known.syntax.words
    needs = use is ToolUse.REQUIRED or sampling.grammar is not None
    assured = bool(talk.tools) and (is_free or needs)
    if assured:
        sampling = replace(sampling, grammar=constraint.grammar())
    callable_tools = () if use is ToolUse.NONE else talk.tools
    manner = Manner(
        known.syntax,
        {tool.name: object_schema(tool) for tool in callable_tools},
        known.letters,
        assured,
        None if talk.tool_choice.parallel else 1,
        is_thinking,
        sampling.stop,
    )
    # Stop strings end words, not calls: who reads knows which is which.
    return replace(sampling, stop=()), partial(CallReading, manner=manner)


def _is_thinking(model: RemoteModel, ids: list[int]) -> bool:
    """Whether a prompt ends within a thought."""
    end = model.tokenizer.decode(ids[-_TAIL:], skip_special_tokens=False)
    return bool(end.rfind("<think>") > end.rfind("</think>"))


def _fitted(model: RemoteModel, ask: Ask, num_prompt: int) -> SamplingConfig:
    """The sampling, with as many tokens as were asked for or the model's context has room for."""
    limit = model.key.context_length
    sampling = ask.sampling
    _check_known(model, (token for token, _ in sampling.logit_bias), "logit_bias")
    wanted = 0 if ask.silent else sampling.max_new_tokens if ask.bounded else 1
    if limit and num_prompt + wanted > limit:
        param = "messages" if isinstance(ask.prompt, Talk) else "prompt"
        raise TooLong(num_prompt, wanted, limit, param=param)
    if ask.bounded or not limit:
        return sampling
    return replace(sampling, max_new_tokens=limit - num_prompt)
