"""A gateway behind a gateway: what the one behind says, the one in front says again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from swarm.client import ChosenToken
from swarm.gateway.anthropic.messages import ENDPOINTS as MESSAGES
from swarm.gateway.app import create_app
from swarm.gateway.ask import Talk, Text, ToolUse
from swarm.gateway.config import GatewayConfig
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Said, Usage
from swarm.gateway.fallback import Fallback, FallbackConfig
from swarm.gateway.hybrid import Hybrid
from swarm.gateway.openai.chat import ENDPOINTS as CHAT
from swarm.gateway.openai.completions import ENDPOINTS as COMPLETIONS
from swarm.gateway.refusals import Reason, Refusal

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def front(scripted: Any, serve: Any) -> AsyncIterator[Any]:
    """One whose swarm has no route; `scripted` is what the one behind says."""
    lost = type(scripted)(events=(Refusal(Reason.NO_ROUTE, "a gap"),))
    async with serve((*CHAT, *COMPLETIONS)) as behind:
        config = FallbackConfig(str(behind.make_url("/v1")))
        async with Fallback.opened(config) as fallback:
            app = create_app((*CHAT, *COMPLETIONS, *MESSAGES), Hybrid(lost, fallback), _CONFIG)
            async with TestClient(TestServer(app)) as client:
                yield client


_CONFIG = GatewayConfig()


async def test_a_chat(front: Any, scripted: Any) -> None:
    scripted.events = (Said(0, "Hel"), Said(0, "lo"), Ended(0, Ending.LENGTH))
    scripted.usage = Usage(7, 2, 3)
    body = {"model": "tiny", "messages": HELLO, "seed": 5, "stop": ["x"], "max_tokens": 9}
    answer = await front.post("/v1/chat/completions", json={**body, "temperature": 0.25})
    told = await answer.json()
    assert answer.headers["X-Homeswarm-Answered-By"] == "fallback"
    (choice,) = told["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "length")
    assert told["usage"]["prompt_tokens"] == 7 and told["usage"]["completion_tokens"] == 3
    assert told["usage"]["prompt_tokens_details"]["cached_tokens"] == 2
    sampling = scripted.ask.sampling
    assert (sampling.seed, sampling.stop, sampling.temperature) == (5, ("x",), 0.25)
    assert scripted.ask.bounded and sampling.max_new_tokens == 9
    assert scripted.ask.prompt == Talk(tuple(HELLO))


async def test_a_stream_of_several_choices(front: Any, scripted: Any) -> None:
    scripted.events = (
        Said(0, "a"),
        Said(1, "b"),
        Ended(1, Ending.END),
        Said(0, "c"),
        Ended(0, Ending.END),
    )
    body = {"model": "tiny", "messages": HELLO, "stream": True, "n": 2}
    answer = await front.post("/v1/chat/completions", json=body)
    assert answer.headers["X-Homeswarm-Answered-By"] == "fallback"
    texts = {0: "", 1: ""}
    *chunks, done = [
        line[6:] for line in (await answer.text()).splitlines() if line.startswith("data: ")
    ]
    assert done == "[DONE]"
    for chunk in map(json.loads, chunks):
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == {0: "ac", 1: "b"}
    assert scripted.ask.num_choices == 2


async def test_calls_of_tools(front: Any, scripted: Any) -> None:
    scripted.events = (
        CallBegun(0, 0, "call-1", "add"),
        CallPart(0, 0, '{"a": '),
        CallPart(0, 0, "1}"),
        Ended(0, Ending.CALLS),
    )
    function = {"name": "add", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": function}]
    body = {"model": "tiny", "messages": HELLO, "tools": tools, "tool_choice": "required"}
    told = await (await front.post("/v1/chat/completions", json=body)).json()
    (choice,) = told["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert (call["id"], choice["finish_reason"]) == ("call-1", "tool_calls")
    prompt = scripted.ask.prompt
    assert prompt.tool_choice.use is ToolUse.REQUIRED and prompt.tools[0].name == "add"


async def test_chances(front: Any, scripted: Any) -> None:
    euro = "€".encode()
    top = ((5, euro[:1], -0.5), (6, b" a", -1.5))
    tokens = (ChosenToken(5, euro[:1], -0.5, top), ChosenToken(7, euro[1:], -0.25))
    scripted.events = (Said(0, "€", tokens), Ended(0, Ending.END))
    body = {"model": "tiny", "messages": HELLO, "logprobs": True, "top_logprobs": 2}
    told = await (await front.post("/v1/chat/completions", json=body)).json()
    first, second = told["choices"][0]["logprobs"]["content"]
    assert bytes(first["bytes"] + second["bytes"]) == euro and first["logprob"] == -0.5
    assert [each["logprob"] for each in first["top_logprobs"]] == [-0.5, -1.5]


async def test_a_plain_prompt(front: Any, scripted: Any) -> None:
    scripted.events = (Said(0, " upon"), Ended(0, Ending.END))
    body = {"model": "tiny", "prompt": "Once", "max_tokens": 4}
    told = await (await front.post("/v1/completions", json=body)).json()
    assert told["choices"][0]["text"] == " upon" and scripted.ask.prompt == Text("Once")


async def test_messages_in_anthropics_words(front: Any, scripted: Any) -> None:
    scripted.events = (Said(0, "Hello"), Ended(0, Ending.END))
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 9}
    answer = await front.post("/v1/messages", json=body)
    told = await answer.json()
    assert answer.headers["X-Homeswarm-Answered-By"] == "fallback"
    assert told["content"][0]["text"] == "Hello" and told["stop_reason"] == "end_turn"


async def test_what_breaks_off_behind_breaks_off_in_front(front: Any, scripted: Any) -> None:
    scripted.events = (Said(0, "Hel"), Refusal(Reason.NO_ROUTE, "a second gap"))
    body = {"model": "tiny", "messages": HELLO, "stream": True}
    text = await (await front.post("/v1/chat/completions", json=body)).text()
    assert "Hel" in text and "a second gap" in text and "[DONE]" not in text


async def test_who_is_busy_behind_is_busy_in_front(front: Any, scripted: Any) -> None:
    scripted.events = (Refusal(Reason.BUSY, "full", retry_after=17),)
    answer = await front.post("/v1/chat/completions", json={"model": "tiny", "messages": HELLO})
    assert answer.status == 429 and answer.headers["Retry-After"] == "17"


async def test_what_cannot_be_said_is_refused(front: Any, scripted: Any) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 9, "top_k": 3}
    answer = await front.post("/v1/messages", json=body)
    told = await answer.json()
    assert answer.status in (503, 529) and "top_k" in told["error"]["message"]
    assert not scripted.asks
