"""Anthropic's Messages API: https://docs.anthropic.com/en/api/messages."""

from __future__ import annotations

import secrets

import msgspec
from aiohttp import web

from swarm.client import Grammar, SamplingConfig

from ..answer import Answer
from ..ask import Ask
from ..endpoint import Call, Endpoint, whole
from ..sse import EventStream
from .answer import AnyEvent, Message, MessageStart, Usage
from .body import CountBody, MessagesBody
from .conversation import json_format, talk
from .dialect import ANTHROPIC
from .version import check_fields, version_of
from .writing import Gathering, Writing

DEFAULT_TEMPERATURE = 1.0
"""The API's own."""


class TokenCount(msgspec.Struct):
    """How many tokens a prompt has."""

    input_tokens: int


async def create_message(call: Call) -> web.StreamResponse:
    """Continues a conversation, in one answer or as events."""
    body: MessagesBody = call.body
    check_fields(version_of(call.request), body)
    ask = Ask(body.model, talk(body), _sampling(body))
    async with call.answerer.answering(ask, call.caller) as answer:
        message = Message(
            id=f"msg_{secrets.token_hex(12)}",
            model=answer.model,
            content=[],
            usage=Usage.of(answer.work.usage),
        )
        if body.stream:
            return await _stream(call.request, message, answer)
        return whole(await _whole(message, answer))


async def count_tokens(call: Call) -> web.StreamResponse:
    """Counts what a conversation has of tokens, with the template's own."""
    version_of(call.request)
    body: CountBody = call.body
    return whole(TokenCount(await call.answerer.count(body.model, talk(body))))


async def _whole(message: Message, answer: Answer) -> Message:
    writing, gathering = Writing(), Gathering(message)
    async for event in answer.work.events():
        for sent in writing.push(event):
            gathering.push(sent)
    for sent in writing.end(Usage.of(answer.work.usage)):
        gathering.push(sent)
    return gathering.message


async def _stream(request: web.Request, message: Message, answer: Answer) -> web.StreamResponse:
    writing = Writing()
    async with EventStream(request, ANTHROPIC) as stream:
        await _send(stream, MessageStart(message))
        async for event in answer.work.events():
            for sent in writing.push(event):
                await _send(stream, sent)
        for sent in writing.end(Usage.of(answer.work.usage)):
            await _send(stream, sent)
    return stream.response


async def _send(stream: EventStream, event: AnyEvent) -> None:
    await stream.send(event, event=event.name)


def _sampling(body: MessagesBody) -> SamplingConfig:
    schema = json_format(body)
    return SamplingConfig(
        max_new_tokens=body.max_tokens,
        temperature=DEFAULT_TEMPERATURE if body.temperature is None else body.temperature,
        top_k=body.top_k or 0,
        top_p=1.0 if body.top_p is None else body.top_p,
        stop=tuple(body.stop_sequences),
        grammar=None if schema is None else Grammar.json_schema(schema),
    )


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/messages",
        "Continue a conversation",
        ANTHROPIC,
        create_message,
        body=MessagesBody,
        answer=Message,
        events=AnyEvent,
    ),
    Endpoint(
        "POST",
        "/v1/messages/count_tokens",
        "Count a conversation's tokens",
        ANTHROPIC,
        count_tokens,
        body=CountBody,
        answer=TokenCount,
    ),
)
