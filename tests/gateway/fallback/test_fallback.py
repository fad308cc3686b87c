from __future__ import annotations

import asyncio
import logging
import time
from email.utils import formatdate
from typing import Any

import pytest

from swarm.client import SamplingConfig
from swarm.errors import ConfigError
from swarm.gateway.answer import Caller, Source
from swarm.gateway.ask import Ask, Talk
from swarm.gateway.events import Ended, Ending, Said, Usage
from swarm.gateway.fallback import Fallback, FallbackConfig
from swarm.gateway.refusals import Reason, Refusal

HANGING = 60.0
"""Seconds: what takes longer hangs, however busy the machine is."""

ASK = Ask("ours", Talk(({"role": "user", "content": "a secret"},)), SamplingConfig())
ANN = Caller("ann")
CHUNKS = (
    {"choices": [{"index": 0, "delta": {"content": "Hi"}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
)


async def refusal(fallback: Fallback, ask: Ask = ASK) -> Refusal:
    """What it says instead of an answer, or of its end."""
    with pytest.raises(Refusal) as refused:
        async with asyncio.timeout(HANGING), fallback.answering(ask, ANN) as answer:
            async for _ in answer.work.events():
                pass
    return refused.value


async def test_it_answers(fallback: Fallback, upstream: Any) -> None:
    upstream.says(*CHUNKS)
    async with fallback.answering(ASK, ANN) as answer:
        assert (answer.model, answer.source) == ("ours", Source.FALLBACK)
        events = [event async for event in answer.work.events()]
    assert events == [Said(0, "Hi"), Ended(0, Ending.END)]
    assert answer.work.usage == Usage(3, 0, 1)
    ((path, headers, body),) = upstream.requests
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer sesame"
    assert body["model"] == "ours"


async def test_it_may_be_asked_for_another_model(upstream: Any) -> None:
    upstream.says(*CHUNKS)
    config = FallbackConfig(upstream.url + "/", model="theirs")
    async with Fallback.opened(config) as fallback, fallback.answering(ASK, ANN) as answer:
        assert answer.model == "ours"
    ((path, headers, body),) = upstream.requests
    assert path == "/v1/chat/completions" and body["model"] == "theirs"
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.NO_ROUTE),
        (403, Reason.NO_ROUTE),
        (404, Reason.NO_ROUTE),
        (302, Reason.NO_ROUTE),
        (307, Reason.NO_ROUTE),
        (400, Reason.INVALID),
        (429, Reason.BUSY),
        (500, Reason.NO_ROUTE),
        (204, Reason.NO_ROUTE),
    ],
)
async def test_its_refusals_are_ours(
    fallback: Fallback, upstream: Any, status: int, reason: Reason
) -> None:
    upstream.status, upstream.headers = status, {"Location": upstream.url + "/elsewhere"}
    refused = await refusal(fallback)
    assert refused.reason is reason and "fallback" in str(refused)
    assert len(upstream.requests) == 1, "nothing is sent elsewhere, nor again"
    assert "sesame" not in str(refused) and upstream.url not in str(refused)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("1e9", 3600), ("nan", 10), ("soon", 10), ("-5", 1)],
)
async def test_when_to_come_again_is_passed_on(
    fallback: Fallback, upstream: Any, value: str, seconds: float
) -> None:
    upstream.status, upstream.headers = 429, {"Retry-After": value}
    assert (await refusal(fallback)).retry_after == seconds


async def test_a_date_to_come_again_at_is_passed_on_too(fallback: Fallback, upstream: Any) -> None:
    date = formatdate(time.time() + 1000, usegmt=True)
    upstream.status, upstream.headers = 429, {"Retry-After": date}
    assert (await refusal(fallback)).retry_after == pytest.approx(1000, abs=100)


async def test_why_it_refuses_a_request_is_said_briefly(fallback: Fallback, upstream: Any) -> None:
    upstream.status = 400
    upstream.parts = [b'{"error": {"message": "too long"}}']
    assert str(await refusal(fallback)).endswith("refuses this request: too long")
    upstream.parts = [b'{"error": {"message": "%s"}}' % (b"x" * 10_000)]
    assert len(str(await refusal(fallback))) < 800
    for nonsense in (b"[" * 60_000, b"x" * 200_000, b'{"error": 1}', b"[1]", b"\xff"):
        upstream.parts = [nonsense]
        assert (await refusal(fallback)).reason is Reason.INVALID


@pytest.mark.parametrize(
    "parts",
    [
        [b"data: " + b"x" * 1000] * 20,
        [b"x" * 1000] * 20,
        [b"data: {}\n\n"] * 2000,
        [b": hush\n\n"] * 4000,
        [b"<html>"],
        [b"data: nonsense\n\n"],
        [b"data: " + b"[" * 3000 + b"\n\n"],
        [b"data: [DONE]\n\n"],
        [],
    ],
    ids=range(9),
)
async def test_hostile_answers_cost_nothing(upstream: Any, parts: list[bytes]) -> None:
    upstream.parts = parts
    config = FallbackConfig(upstream.url, most_part=4096, most_bytes=10_000)
    async with Fallback.opened(config) as fallback:
        assert (await refusal(fallback)).reason is Reason.NO_ROUTE


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "text/html"}, {"Content-Encoding": "gzip"}], ids=str
)
async def test_other_forms_of_answers_are_not_read(
    fallback: Fallback, upstream: Any, headers: dict[str, str]
) -> None:
    upstream.headers = headers
    upstream.says(*CHUNKS)
    assert (await refusal(fallback)).reason is Reason.NO_ROUTE


async def test_who_is_silent_is_not_waited_for(upstream: Any) -> None:
    upstream.parts, upstream.pauses = [b": wait\n\n"], True
    async with Fallback.opened(FallbackConfig(upstream.url, patience=0.1)) as fallback:
        assert "does not answer" in str(await refusal(fallback))


async def test_nobody_there(upstream: Any, unused_tcp_port: int) -> None:
    config = FallbackConfig(f"http://127.0.0.1:{unused_tcp_port}")
    async with Fallback.opened(config) as fallback:
        refused = await refusal(fallback)
    assert refused.reason is Reason.NO_ROUTE and refused.retry_after


async def test_who_leaves_ends_the_request(fallback: Fallback, upstream: Any) -> None:
    upstream.says(*CHUNKS)
    upstream.pauses = True
    async with asyncio.timeout(HANGING):
        async with fallback.answering(ASK, ANN) as answer:
            assert [event async for event in _some(answer.work.events(), 1)] == [Said(0, "Hi")]
        await upstream.gone.wait()


async def test_errors_of_whoever_is_answered_are_not_the_fallbacks(
    fallback: Fallback, upstream: Any
) -> None:
    upstream.says(*CHUNKS)
    with pytest.raises(ConnectionResetError, match="ours"):
        async with fallback.answering(ASK, ANN):
            raise ConnectionResetError("ours")


async def test_it_answers_only_so_many(upstream: Any) -> None:
    upstream.says(*CHUNKS)
    upstream.pauses = True
    async with Fallback.opened(FallbackConfig(upstream.url, most_running=1)) as fallback:
        async with fallback.answering(ASK, ANN):
            refused = await refusal(fallback)
            assert refused.reason is Reason.BUSY and refused.retry_after
        upstream.pauses = False
        async with fallback.answering(ASK, ANN):
            pass
    assert len(upstream.requests) == 2


async def test_a_gateway_that_stops_breaks_answers_off(fallback: Fallback, upstream: Any) -> None:
    upstream.says(*CHUNKS)
    upstream.pauses = True
    stopping = Refusal(Reason.NO_ROUTE, "stopping")
    async with asyncio.timeout(HANGING), fallback.answering(ASK, ANN) as answer:
        events = answer.work.events()
        assert await anext(events) == Said(0, "Hi")
        asyncio.get_running_loop().call_soon(fallback.stop, stopping)
        with pytest.raises(Refusal, match="stopping"):
            await anext(events)
    assert await refusal(fallback) is stopping and len(upstream.requests) == 1


async def test_that_prompts_leave_the_group_is_said_at_the_start(
    upstream: Any, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.says(*CHUNKS)
    async with Fallback.opened(FallbackConfig(upstream.url, "sesame")) as fallback:
        assert "prompts LEAVE THE GROUP" in caplog.text and "over http" not in caplog.text
        caplog.set_level(logging.DEBUG)
        async with fallback.answering(ASK, ANN):
            pass
    assert "sesame" not in caplog.text and "a secret" not in caplog.text
    async with Fallback.opened(FallbackConfig("http://far.example/v1")):
        assert "over http" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "far.example",
        "ftp://far.example",
        "http://",
        "http://far.example:port",
        "http://name:word@far.example",
        "http://far.example?a=b",
        "http://far.example#a",
        "http://[::1",
    ],
)
def test_addresses_are_checked(url: str) -> None:
    with pytest.raises(ConfigError):
        FallbackConfig(url)


def test_a_key_is_shown_to_nobody() -> None:
    assert "sesame" not in repr(FallbackConfig("http://localhost", "sesame"))
    with pytest.raises(ConfigError) as error:
        FallbackConfig("http://localhost", "sesame\n")
    assert "sesame" not in str(error.value)


async def _some(events: Any, count: int) -> Any:
    async for event in events:
        yield event
        count -= 1
        if not count:
            return
