"""Peers die, come back, and come late: programs see no more of it than they must."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

TALK: list[Any] = [{"role": "user", "content": "Tell a story of bees."}]
CHAT: Any = {"model": "smol", "messages": TALK, "temperature": 0, "max_tokens": 40}
SPANS = {"first": "0:10", "second": "10:30", "third": "10:30"}


@pytest.fixture(autouse=True)
def all_peers(shared: Any) -> Iterator[None]:
    """Whoever died in a test is there again after it."""
    yield
    dead = {name: span for name, span in SPANS.items() if name not in shared.processes.running}
    shared.processes.peers(**dead)


@pytest.fixture(scope="module")
def story(program: openai.OpenAI) -> str:
    """What is said if nobody dies."""
    return str(program.chat.completions.create(**CHAT).choices[0].message.content)


async def serving(shared: Any) -> str:
    """Which of the two is on the only reply's way."""
    for name in ("second", "third"):
        if (await shared.census(name))["sessions"]:
            return name
    raise AssertionError("nobody has a session")


async def test_a_peer_dies_in_midstream(
    shared: Any, async_program: openai.AsyncOpenAI, story: str
) -> None:
    """Another one holds the same blocks: the text is the same."""
    stream = await async_program.chat.completions.create(**CHAT, stream=True)
    said, victim = "", ""
    async for chunk in stream:
        said += chunk.choices[0].delta.content or ""
        if not victim and len(said) > 20:
            victim = await serving(shared)
            shared.processes.kill(victim)
    assert victim and said == story and chunk.choices[0].finish_reason == "length"
    await shared.released()


async def test_a_peer_stands_still_while_a_tool_is_called(
    shared: Any, async_claude: anthropic.AsyncAnthropic
) -> None:
    """What has been said of the call stays; the rest keeps to the schema as if nothing was."""
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 12, "maxItems": 12}
    tools: Any = [{"name": "add", "strict": True, "input_schema": {
        "type": "object", "properties": {"of": schema}, "required": ["of"],
        "additionalProperties": False,
    }}]  # fmt: skip
    fields: Any = {"model": "smol", "messages": TALK, "max_tokens": 300}
    fields |= {"tools": tools, "tool_choice": {"type": "tool", "name": "add"}}
    fields["tool_choice"]["disable_parallel_tool_use"] = True
    victim = ""
    async with async_claude.messages.stream(**fields) as stream:
        async for event in stream:
            if not victim and event.type == "input_json":
                victim = await serving(shared)
                shared.processes.signal(victim, signal.SIGSTOP)
        message = await stream.get_final_message()
    shared.processes.kill(victim)
    (call,) = message.content
    assert victim and call.type == "tool_use"
    assert message.stop_reason == "tool_use" and len(call.input["of"]) == 12  # type: ignore[index]


async def test_a_peer_that_nobody_stands_in_for_comes_back(
    shared: Any, async_program: openai.AsyncOpenAI, story: str
) -> None:
    """The stream waits for it, and goes on where it was."""
    stream = await async_program.chat.completions.create(**CHAT, stream=True)
    said = ""
    async for chunk in stream:
        said += chunk.choices[0].delta.content or ""
        if len(said) > 20 and "first" in shared.processes.running:
            shared.processes.kill("first")
            shared.processes.peer("first", SPANS["first"])
            break
    async for chunk in stream:
        said += chunk.choices[0].delta.content or ""
    assert said == story
    await asyncio.to_thread(shared.processes.line, "first")


async def test_all_peers_are_gone_and_come_back(
    shared: Any, program: openai.OpenAI, claude: anthropic.Anthropic, story: str
) -> None:
    """And the first peer of a model that nobody served comes, too."""
    for name in SPANS:
        shared.processes.kill(name)
    key = shared.key("survivor")
    async with aiohttp.ClientSession(
        base_url=shared.strict,
        headers={"Authorization": f"Bearer {key}"},
        connector=aiohttp.TCPConnector(ssl=shared.trust),
    ) as client:
        await _health(client, 503, lambda models: models["smol"]["missing"] == [[0, 30]])
        async with client.post("/v1/chat/completions", json=CHAT) as answer:
            assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1
            assert (await answer.json())["error"]["code"] == "no_route"
        async with client.post("/v1/chat/completions", json=CHAT | {"stream": True}) as answer:
            assert answer.status == 503
        said = CHAT | {"max_tokens": 4}
        async with client.post("/v1/messages", json=said) as answer:
            assert answer.status == 529 and int(answer.headers["Retry-After"]) >= 1
            assert (await answer.json())["error"]["type"] == "overloaded_error"
        async with client.get("/v1/models") as answer:
            assert len((await answer.json())["data"]) == 2
        shared.processes.peer("mute", "0:2", shared.mute)
        await asyncio.to_thread(shared.processes.peers, **SPANS)
        await asyncio.to_thread(shared.processes.line, "mute")
        await _health(client, 200, lambda models: True)
        async with client.post("/v1/chat/completions", json=CHAT) as answer:
            assert (await answer.json())["choices"][0]["message"]["content"] == story
        body = {"model": "mute", "prompt": "bees", "max_tokens": 8, "temperature": 0}
        async with client.post("/v1/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            assert (await answer.json())["usage"]["prompt_tokens"] == 4
    shared.revoke("survivor")
    shared.processes.signal("mute", signal.SIGTERM)
    assert shared.processes.wait("mute") == 0


async def _health(client: aiohttp.ClientSession, status: int, holds: Any) -> None:
    """Waits until the models' health is so."""
    async with asyncio.timeout(60):
        while True:
            async with client.get("/health") as answer:
                models = json.loads(await answer.text())["models"]
                if answer.status == status and holds(models):
                    return
            await asyncio.sleep(0.1)
