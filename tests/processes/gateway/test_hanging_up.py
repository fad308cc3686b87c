"""Who hangs up is no longer worked for, whenever it does: soon nothing is held any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest

STORY: list[Any] = [{"role": "user", "content": "Tell a very long story about bees."}]
LONG: dict[str, Any] = {"model": "smol", "max_tokens": 4000, "temperature": 1.5}
PROMPT = "bee " * 3000


async def send(shared: Any, path: str, body: Any, *, part: float = 1.0) -> asyncio.StreamWriter:
    """Sends a request, or only a part of its body, and does not read the answer."""
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    place = urlsplit(shared.plain)
    _, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode())
    writer.write(text[: int(len(text) * part)])
    await writer.drain()
    return writer


@pytest.mark.parametrize("part", [0.0, 0.5])
async def test_before_the_body_is_there(shared: Any, part: float) -> None:
    body = LONG | {"messages": STORY}
    writer = await send(shared, "/v1/chat/completions", body, part=part)
    await shared.until("plain", "requests", 1)
    writer.transport.abort()
    await shared.released()


@pytest.mark.parametrize(
    "path, body",
    [
        ("/v1/completions", {"prompt": PROMPT, "stream": True}),
        ("/v1/completions", {"prompt": PROMPT}),
        ("/v1/completions", {"prompt": PROMPT, "n": 3, "max_tokens": 99}),
        ("/v1/messages", {"messages": [{"role": "user", "content": PROMPT}]}),
    ],
)
async def test_before_the_first_token(shared: Any, path: str, body: Any) -> None:
    limits = LONG | ({"temperature": 1} if path.endswith("messages") else {})
    writer = await send(shared, path, limits | body)
    await shared.until("first", "sessions", 1)
    writer.transport.abort()
    await shared.released()


@pytest.mark.parametrize("fields", [{}, {"n": 3, "max_tokens": 500}])
async def test_in_the_middle_of_a_whole_answer(shared: Any, fields: dict[str, Any]) -> None:
    body = LONG | {"messages": STORY} | fields
    writer = await send(shared, "/v1/chat/completions", body)
    await shared.until("first", "sessions", fields.get("n", 1))
    writer.transport.abort()
    await shared.released()


async def test_in_the_middle_of_streams(shared: Any, async_program: openai.AsyncOpenAI) -> None:
    chat = await async_program.chat.completions.create(messages=STORY, stream=True, **LONG)
    text = await async_program.completions.create(prompt="Bees", stream=True, **LONG)
    limits: dict[str, Any] = LONG | {"max_output_tokens": LONG["max_tokens"]}
    del limits["max_tokens"]
    response = await async_program.responses.create(input="Bees", stream=True, **limits)
    for stream in (chat, text, response):
        for _ in range(4):
            await anext(stream)  # type: ignore[arg-type]
        await stream.close()
    await shared.released()


async def test_in_the_middle_of_messages(
    shared: Any, async_claude: anthropic.AsyncAnthropic
) -> None:
    limits: Any = {"model": "smol", "max_tokens": 4000, "messages": STORY}
    async with async_claude.messages.stream(**limits) as stream:
        async for _ in stream.text_stream:
            break
    await shared.released()


async def test_when_the_program_gives_up(shared: Any, async_program: openai.AsyncOpenAI) -> None:
    """As the package does, after its timeout."""
    asking = async_program.with_options(timeout=0.5).chat.completions.create
    with pytest.raises(openai.APITimeoutError):
        await asking(messages=STORY, **LONG)
    await shared.released()


async def test_while_it_waits_for_its_turn(
    shared: Any, keyed: Callable[[str], openai.OpenAI]
) -> None:
    key = shared.key("waits")
    http = openai.DefaultAsyncHttpxClient(verify=shared.trust)
    async with (
        http,
        openai.AsyncOpenAI(
            base_url=f"{shared.strict}/v1", api_key=key, max_retries=0, http_client=http
        ) as program,
    ):
        fields: Any = LONG | {"messages": STORY}
        running = await program.chat.completions.create(stream=True, **fields)
        await anext(running)  # type: ignore[arg-type]
        waiting = asyncio.create_task(program.chat.completions.create(**fields))
        await shared.until("strict", "waiting", 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await shared.until("strict", "waiting", 0)
        assert (await shared.census("strict"))["places"] == 1
        await running.close()
        await shared.released()
    shared.revoke("waits")
