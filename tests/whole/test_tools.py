"""Calls of tools over a whole swarm: whatever a model would say, they are right."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from aiohttp.test_utils import TestClient, TestServer

from swarm.gateway.app import create_app
from swarm.gateway.config import GatewayConfig
from swarm.gateway.core import Core
from swarm.gateway.openai import chat

SPECIAL = ["<|turn|>", "<|end|>", "<|call|>", "<|called|>"]
TEMPLATE = (
    "{% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}"
    "{% for m in messages %}<|turn|>{{ m.role }}:{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<|call|>{{ call.function.name }}"
    "{{ call.function.arguments | tojson }}<|called|>{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant:{% endif %}"
)
PLAIN = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}assistant:"
SCHEMA = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "maxLength": 8},
        "days": {"type": "array", "items": {"type": "integer", "maximum": 9}, "maxItems": 3},
    },
    "required": ["place", "days"],
    "additionalProperties": False,
}
WEATHER = {"name": "weather", "description": "Tells it.", "parameters": SCHEMA, "strict": True}
CLOCK = {"name": "clock", "parameters": {"type": "object", "additionalProperties": False}}
TOOLS: list[Any] = [{"type": "function", "function": each} for each in (WEATHER, CLOCK)]
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(params=[TEMPLATE, PLAIN], ids=["taught", "asked"])
async def world(request: Any, make_world: Any, make_tiny: Any, make_byte_level: Any) -> Any:
    tiny = make_tiny("llama", vocab_size=263, max_position_embeddings=4096, eos_token_id=2)
    tokenizer = make_byte_level(template=request.param)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.save_pretrained(tiny.folder)
    world = make_world(tiny)
    await world.chain(0, 2, 4)
    await world.spare((2, 4))
    return world


@pytest.fixture
async def program(world: Any) -> Any:
    """The `openai` package, pointed at a gateway of the world's client."""
    core = Core({"tiny": await world.client()}, GatewayConfig())
    app = create_app(chat.ENDPOINTS, core, GatewayConfig())
    async with TestClient(TestServer(app)) as client:
        url = str(client.make_url("/v1"))
        async with openai.AsyncOpenAI(base_url=url, api_key="-", max_retries=0) as program:
            yield program


async def say(program: Any, messages: list[Any] = HELLO, **fields: Any) -> Any:
    options = {"seed": 3, "max_completion_tokens": 300, "tools": TOOLS, **fields}
    return await program.chat.completions.create(model="tiny", messages=messages, **options)


def check(name: str, arguments: str) -> None:
    held = json.loads(arguments)
    if name == "clock":
        assert held == {}
        return
    assert name == "weather" and set(held) == {"place", "days"}
    assert len(held["place"]) <= 8 and all(day <= 9 for day in held["days"])


async def test_a_required_call_is_right_and_its_result_is_taken(program: Any) -> None:
    wanted = {"tool_choice": "required", "parallel_tool_calls": False}
    answer = await say(program, **wanted)
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and not choice.message.content
    check(call.function.name, call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "Rain."}
    talk = [*HELLO, choice.message.model_dump(exclude_none=True), result]
    again = await say(program, talk, **wanted)
    assert again.choices[0].finish_reason == "tool_calls"
    assert again.usage.prompt_tokens > answer.usage.prompt_tokens


async def test_a_stream_of_calls_survives_a_peer(world: Any, program: Any) -> None:
    """The same calls as without: what is read goes on where it was, and so does the grammar."""
    choice = {"type": "function", "function": {"name": "weather"}}
    calm = (await say(program, tool_choice=choice, parallel_tool_calls=False)).choices[0]
    stream = await say(program, tool_choice=choice, parallel_tool_calls=False, stream=True)
    parts, reason, is_killed = [], None, False
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or ():
            parts.append(call.function.arguments or "")
            if len(parts) > 2 and not is_killed:
                is_killed = True
                await world.kill("peer-1")
        reason = chunk.choices[0].finish_reason or reason
    assert is_killed and reason == "tool_calls" and len(parts) > 5
    assert "".join(parts) == calm.message.tool_calls[0].function.arguments
    check("weather", "".join(parts))


async def test_no_call_where_none_may_be(program: Any) -> None:
    answer = await say(program, tool_choice="none", max_completion_tokens=60)
    assert answer.choices[0].message.tool_calls is None and answer.choices[0].message.content


async def test_either_the_format_or_calls(program: Any) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema["additionalProperties"] = False
    wanted = {"type": "json_schema", "json_schema": {"name": "ok", "schema": schema}}
    for seed in range(3):
        answer = await say(program, response_format=wanted, seed=seed, parallel_tool_calls=False)
        message = answer.choices[0].message
        if message.tool_calls:
            check(message.tool_calls[0].function.name, message.tool_calls[0].function.arguments)
        else:
            assert set(json.loads(message.content)) == {"ok"}


async def test_a_stop_string_ends_words(program: Any) -> None:
    free = await say(program, tool_choice="auto", max_completion_tokens=60)
    text = free.choices[0].message.content
    at = next(i for i in range(2, len(text)) if "\ufffd" not in text[i : i + 2])
    stop = text[at : at + 2]
    answer = await say(program, tool_choice="auto", max_completion_tokens=60, stop=[stop])
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens < free.usage.completion_tokens


async def test_a_strict_schema_that_cannot_be_held_to_is_refused(program: Any) -> None:
    held = {"type": "object", "not": {"required": ["a"]}}
    tools = [{"type": "function", "function": {"name": "odd", "parameters": held, "strict": True}}]
    with pytest.raises(openai.BadRequestError):
        await say(program, tools=tools)
