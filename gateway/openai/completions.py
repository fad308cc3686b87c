"""`/v1/completions` (https://platform.openai.com/docs/api-reference/completions)."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, cast

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from ..answer import Answer
from ..ask import Ask, Text, Tokens
from ..endpoint import Call, Endpoint, whole
from ..refusals import Reason, Refusal
from ..sse import EventStream
from .completion_answer import Completion, CompletionChoice, Texts, put_together
from .dialect import OPENAI
from .fields import (
    Biases,
    Identifier,
    NumChoices,
    Penalty,
    Seed,
    Stop,
    Stops,
    StreamOptions,
    Temperature,
    TokenId,
    TopP,
    UsageBody,
    wants_usage,
)
from .sampling import sampling_of
from .several import answering

MOST_PROMPTS = 128
"""Prompts of one request."""

USUAL_TOKENS = 16
"""Tokens of a reply where `max_tokens` does not say otherwise, as in the API."""

MOST_TOKENS = 1 << 20
"""Token ids of one prompt: more than any model reads."""

Ids = Annotated[list[TokenId], Meta(min_length=1, max_length=MOST_TOKENS)]
Items = Annotated[list[str | TokenId | Ids], Meta(min_length=1, max_length=MOST_TOKENS)]


class CompletionRequest(Struct, forbid_unknown_fields=True):
    """Texts that the model is to continue, without a chat template.

    `prompt` is a text, or a text's token ids, or a list of several of either. `user` only says who
    asks. What is only ever null is not supported.
    """

    model: str
    prompt: str | Items
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    echo: bool | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    n: NumChoices | None = None
    presence_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Stop | Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    user: Identifier | None = None

    suffix: None = None

    HINTS: ClassVar[dict[str, str]] = {
        "suffix": "models here continue a text, they fill no gaps in it",
    }


def asked(body: CompletionRequest) -> list[Ask]:
    """An ask for each prompt. Raises `Refusal`."""
    num_choices = body.n or 1
    _check_best_of(body, num_choices)
    limit = USUAL_TOKENS if body.max_tokens is None else body.max_tokens
    if not limit and not body.echo:
        raise Refusal(
            Reason.INVALID, "'max_tokens' 0 goes with 'echo': true alone", param="max_tokens"
        )
    sampling = replace(sampling_of(body, limit), logprobs=body.logprobs)
    return [
        Ask(
            body.model,
            prompt,
            sampling,
            num_choices=num_choices,
            best_of=body.best_of,
            echo=bool(body.echo),
            silent=not limit,
        )
        for prompt in prompts_of(body.prompt)
    ]


def prompts_of(prompt: str | list[str | int | list[int]]) -> list[Text | Tokens]:
    """One prompt, or several of the same kind. Raises `Refusal` for a mixture."""
    if isinstance(prompt, str):
        return [Text(prompt)]
    kinds = {type(item) for item in prompt}
    if kinds == {int}:
        return [Tokens(tuple(cast(list[int], prompt)))]
    if len(kinds) > 1:
        raise Refusal(
            Reason.INVALID,
            "'prompt' is a text, a list of texts, a list of token ids, or a list of such lists",
            param="prompt",
        )
    if len(prompt) > MOST_PROMPTS:
        raise Refusal(
            Reason.INVALID, f"'prompt' may hold up to {MOST_PROMPTS} prompts", param="prompt"
        )
    return [
        Text(item) if isinstance(item, str) else Tokens(tuple(cast(list[int], item)))
        for item in prompt
    ]


def _check_best_of(body: CompletionRequest, num_choices: int) -> None:
    if body.best_of is None:
        return
    if body.best_of < num_choices:
        raise Refusal(Reason.INVALID, "'best_of' is at least as much as 'n'", param="best_of")
    if body.stream and body.best_of > num_choices:
        raise Refusal(
            Reason.INVALID,
            "'best_of' and 'stream' cannot go together: the best is known at the end",
            param="best_of",
        )


@dataclass(frozen=True)
class _Head:
    """What all chunks of an answer have in common."""

    id: str
    created: int
    model: str

    @classmethod
    def of(cls, answer: Answer) -> _Head:
        return cls(f"cmpl-{secrets.token_hex(12)}", int(time.time()), answer.model)

    def completion(
        self, choices: list[CompletionChoice], usage: UsageBody | UnsetType | None
    ) -> Completion:
        return Completion(
            id=self.id, created=self.created, model=self.model, choices=choices, usage=usage
        )


async def complete(call: Call) -> web.StreamResponse:
    """Continues texts, at once or in a stream."""
    body: CompletionRequest = call.body
    with_usage = wants_usage(body.stream, body.stream_options)
    async with answering(call.answerer, asked(body), call.caller) as answer:
        if body.stream:
            return await _stream(call, answer, with_usage=with_usage)
        return await _whole(body, answer)


async def _stream(call: Call, answer: Answer, *, with_usage: bool) -> web.StreamResponse:
    head = _Head.of(answer)
    texts = Texts(logprobs=call.body.logprobs is not None)
    async with EventStream(call.request, OPENAI) as stream:
        async for event in answer.work.events():
            if choice := texts.push(event):
                await stream.send(head.completion([choice], None if with_usage else UNSET))
        if with_usage:
            await stream.send(head.completion([], UsageBody.of(answer.work.usage)))
        await stream.send("[DONE]")
    return stream.response


async def _whole(body: CompletionRequest, answer: Answer) -> web.Response:
    logprobs = body.logprobs is not None
    texts = Texts(logprobs=logprobs)
    told = [texts.push(event) async for event in answer.work.events()]
    choices = put_together((chunk for chunk in told if chunk), logprobs=logprobs)
    return whole(_Head.of(answer).completion(choices, UsageBody.of(answer.work.usage)))


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/completions",
        "Continue texts",
        OPENAI,
        complete,
        body=CompletionRequest,
        answer=Completion,
        events=Completion,
    ),
)
