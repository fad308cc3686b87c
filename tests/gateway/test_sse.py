"""Streams of events: their form, their end, and what is sent while there is nothing to say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from swarm.gateway.anthropic.dialect import ANTHROPIC
from swarm.gateway.endpoint import Call, Dialect, Endpoint
from swarm.gateway.openai.dialect import OPENAI
from swarm.gateway.refusals import Reason, Refusal
from swarm.gateway.sse import EventStream


def _endpoint(dialect: Dialect, quiet: float, say: Any) -> Endpoint:
    async def handle(call: Call) -> web.StreamResponse:
        async with EventStream(call.request, dialect, quiet=quiet) as stream:
            await say(stream)
        return stream.response

    return Endpoint("GET", "/", "speaks", dialect, handle)


async def test_events_have_names_and_data(serve: Any) -> None:
    async def say(stream: EventStream) -> None:
        await stream.send({"a": "ä"}, event="one")
        await stream.comment("hush")
        await stream.send("[DONE]")

    async with serve([_endpoint(OPENAI, 60, say)]) as client:
        answer = await client.get("/")
        text = await answer.text()
    assert text == 'event: one\ndata: {"a":"ä"}\n\n: hush\n\ndata: [DONE]\n\n'
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_refusal_in_midstream_is_the_last_event(serve: Any) -> None:
    async def say(stream: EventStream) -> None:
        await stream.send({}, event="one")
        raise Refusal(Reason.NO_ROUTE, "a gap")

    async with serve([_endpoint(ANTHROPIC, 60, say)]) as client:
        answer = await client.get("/")
        text = await answer.text()
    assert text.startswith("event: one\ndata: {}\n\nevent: error\ndata: ")
    assert '"overloaded_error","message":"a gap"' in text
    assert answer.headers["request-id"] in text


async def test_an_error_of_ours_breaks_the_stream_off(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def say(stream: EventStream) -> None:
        await stream.send({}, event="one")
        raise ZeroDivisionError

    async with serve([_endpoint(OPENAI, 60, say)]) as client:
        answer = await client.get("/")
        with pytest.raises(Exception, match="payload"):
            await answer.text()
    assert "request failed" in caplog.text and "ZeroDivisionError" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC])
async def test_silence_is_filled(serve: Any, dialect: Dialect) -> None:
    heard = asyncio.Event()

    async def say(stream: EventStream) -> None:
        await heard.wait()
        await stream.send({}, event="late")

    async with serve([_endpoint(dialect, 0.01, say)]) as client:
        answer = await client.get("/")
        assert await answer.content.readexactly(len(dialect.idle)) == dialect.idle
        heard.set()
        rest = await answer.text()
    assert "event: late\ndata: {}\n\n" in rest


async def test_one_who_speaks_is_not_interrupted(serve: Any) -> None:
    async def say(stream: EventStream) -> None:
        for _ in range(3):
            await stream.send({})

    async with serve([_endpoint(ANTHROPIC, 60, say)]) as client:
        assert "ping" not in await (await client.get("/")).text()
