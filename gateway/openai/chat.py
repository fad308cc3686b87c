"""`/v1/chat/completions` (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from swarm.client import SamplingConfig

from ..answer import Answer
from ..ask import Ask, Talk
from ..endpoint import Call, Endpoint, whole
from ..refusals import Reason, Refusal
from ..sse import EventStream
from .chat_answer import ChatCompletion, Chunk, ChunkChoice, Deltas, put_together
from .dialect import OPENAI
from .fields import (
    Biases,
    Identifier,
    Metadata,
    Never,
    NumChoices,
    Penalty,
    Seed,
    Stop,
    Stops,
    StreamOptions,
    Temperature,
    TokenLimit,
    TopP,
    UsageBody,
    wants_usage,
)
from .formats import FORMAT_HINTS, Format, grammar_of, told
from .messages import MESSAGE_HINTS, Messages, conversation
from .sampling import sampling_of
from .tools import Choice, Tools, tools_of


class ChatRequest(Struct, forbid_unknown_fields=True):
    """A conversation that the model is to continue.

    Some fields only say who asks (`user`, `safety_identifier`, `prompt_cache_key`, `metadata`), and
    some are known with the one value that holds here anyway (`store`, `service_tier`, `modalities`,
    `verbosity`, `prompt_cache_retention`). Those that are only ever null are not supported.
    """

    model: str
    messages: Messages
    frequency_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    logprobs: bool | None = None
    max_completion_tokens: TokenLimit | None = None
    max_tokens: TokenLimit | None = None
    metadata: Metadata | None = None
    modalities: Annotated[list[Literal["text"]], Meta(min_length=1, max_length=1)] | None = None
    n: NumChoices | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: Penalty | None = None
    prompt_cache_key: Identifier | None = None
    prompt_cache_retention: Literal["in_memory"] | None = None
    response_format: Format | None = None
    safety_identifier: Identifier | None = None
    seed: Seed | None = None
    service_tier: Literal["auto", "default"] | None = None
    stop: Stop | Stops | None = None
    store: Never | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    tool_choice: Choice | None = None
    tools: Tools | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    top_p: TopP | None = None
    user: Identifier | None = None
    verbosity: Literal["medium"] | None = None

    audio: None = None
    function_call: None = None
    functions: None = None
    moderation: None = None
    prediction: None = None
    prompt_cache_options: None = None
    reasoning_effort: None = None
    web_search_options: None = None

    HINTS: ClassVar[dict[str, str]] = {
        **MESSAGE_HINTS,
        **FORMAT_HINTS,
        "audio": "models here read and write text alone",
        "function_call": "use 'tool_choice'",
        "functions": "use 'tools'",
        "prediction": "the swarm guesses ahead by itself",
        "prompt_cache_options": "peers keep whatever they have read, as long as there is room",
        "24h": "peers keep prompts in memory, as long as there is room",
        "reasoning_effort": "how long a model thinks is up to its chat template",
        "flex": "all requests are served alike",
        "scale": "all requests are served alike",
        "priority": "all requests are served alike",
        "fast": "all requests are served alike",
        "low": "replies are as long as the model makes them",
        "high": "replies are as long as the model makes them",
    }


def asked(body: ChatRequest) -> Ask:
    """What the request asks for, in no API's words. Raises `Refusal`."""
    if body.store:
        raise Refusal(
            Reason.UNSUPPORTED, "'store' is not supported: nothing is kept here", param="store"
        )
    tools, choice = tools_of(body.tools, body.tool_choice, body.parallel_tool_calls)
    messages = told(conversation(body.messages), body.response_format)
    limit = _limit(body)
    return Ask(
        body.model,
        Talk(messages, tools, choice),
        _sampling(body, limit),
        bounded=limit is not None,
        num_choices=body.n or 1,
    )


def _limit(body: ChatRequest) -> int | None:
    """Tokens of a reply; the older field is the same as the newer one."""
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise Refusal(
            Reason.INVALID,
            "'max_tokens' and 'max_completion_tokens' cannot both be given",
            param="max_tokens",
        )
    return body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens


def _sampling(body: ChatRequest, limit: int | None) -> SamplingConfig:
    if body.top_logprobs is not None and not body.logprobs:
        raise Refusal(
            Reason.INVALID, "'top_logprobs' goes with 'logprobs': true", param="top_logprobs"
        )
    return replace(
        sampling_of(body, limit),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        grammar=grammar_of(body.response_format, "response_format"),
    )


@dataclass(frozen=True)
class _Head:
    """What all chunks of an answer have in common."""

    id: str
    created: int
    model: str
    service_tier: Literal["default"] | UnsetType

    @classmethod
    def of(cls, body: ChatRequest, answer: Answer) -> _Head:
        tier: Literal["default"] | UnsetType = "default" if body.service_tier else UNSET
        return cls(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), answer.model, tier)

    def chunk(
        self, choices: list[ChunkChoice], usage: UsageBody | UnsetType | None = UNSET
    ) -> Chunk:
        return Chunk(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=choices,
            service_tier=self.service_tier,
            usage=usage,
        )


async def chat(call: Call) -> web.StreamResponse:
    """Answers a conversation, at once or in a stream."""
    body: ChatRequest = call.body
    with_usage = wants_usage(body.stream, body.stream_options)
    async with call.answerer.answering(asked(body), call.caller) as answer:
        if body.stream:
            return await _stream(call, answer, with_usage=with_usage)
        return await _whole(body, answer)


async def _stream(call: Call, answer: Answer, *, with_usage: bool) -> web.StreamResponse:
    head = _Head.of(call.body, answer)
    deltas = Deltas(logprobs=bool(call.body.logprobs))
    async with EventStream(call.request, OPENAI) as stream:
        async for event in answer.work.events():
            for choice in deltas.push(event):
                await stream.send(head.chunk([choice], None if with_usage else UNSET))
        if with_usage:
            await stream.send(head.chunk([], UsageBody.of(answer.work.usage)))
        await stream.send("[DONE]")
    return stream.response


async def _whole(body: ChatRequest, answer: Answer) -> web.Response:
    head = _Head.of(body, answer)
    deltas = Deltas(logprobs=bool(body.logprobs))
    chunks = [choice async for event in answer.work.events() for choice in deltas.push(event)]
    completion = ChatCompletion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=put_together(chunks, logprobs=bool(body.logprobs)),
        usage=UsageBody.of(answer.work.usage),
        service_tier=head.service_tier,
        metadata=UNSET if body.metadata is None else body.metadata,
    )
    return whole(completion)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/chat/completions",
        "Continue a conversation",
        OPENAI,
        chat,
        body=ChatRequest,
        answer=ChatCompletion,
        events=Chunk,
    ),
)
