"""Agents: programs that have the model call functions, run them, and tell it what came out.

A small model does not choose well, so it is told what to call; what it calls it with is its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import anthropic
import openai
import pytest
from anthropic import beta_tool

ADD = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": 0, "maximum": 99},
        "b": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["a", "b"],
    "additionalProperties": False,
}
LOOK_UP = {
    "type": "object",
    "properties": {"city": {"enum": ["Bonn", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
QUESTION = "What is 17 and 25? And how warm is it in Rome?"
LIMITS: dict[str, Any] = {"temperature": 1, "max_tokens": 80}


def add(a: int, b: int) -> str:
    return str(a + b)


def look_up(city: str) -> str:
    return f"{city}: {len(city) * 5} degrees"


FUNCTIONS: dict[str, tuple[Callable[..., str], dict[str, Any], str]] = {
    "add": (add, ADD, "Adds two numbers."),
    "look_up": (look_up, LOOK_UP, "Tells how warm it is in a city."),
}


def run(name: str, arguments: dict[str, Any]) -> str:
    """What the agent does when it is called; fails where a schema was not kept to."""
    return FUNCTIONS[name][0](**arguments)


def chat_step(program: openai.OpenAI, stream: bool, **fields: Any) -> Any:
    fields = {"model": "smol", "seed": 3, **LIMITS, **fields}
    if not stream:
        return program.chat.completions.create(**fields).choices[0]
    with program.chat.completions.stream(**fields) as events:
        for _ in events:
            pass
        return events.get_final_completion().choices[0]


@pytest.mark.parametrize("stream", [False, True])
def test_over_chat_completions(program: openai.OpenAI, stream: bool) -> None:
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": told,
                "parameters": schema,
                "strict": True,
            },
        }
        for name, (_, schema, told) in FUNCTIONS.items()
    ]
    talk: list[Any] = [{"role": "user", "content": QUESTION}]
    named = {"type": "function", "function": {"name": "look_up"}}
    only_add = {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [{"type": "function", "function": {"name": "add"}}],
        },
    }
    for choice, names in ((named, {"look_up"}), (only_add, {"add"}), ("required", set(FUNCTIONS))):
        fields = {"messages": talk, "tools": tools, "tool_choice": choice}
        answer = chat_step(program, stream, **fields, parallel_tool_calls=False)
        assert answer.finish_reason == "tool_calls"
        # As it came, with what the package has added.
        talk.append(answer.message)
        (call,) = answer.message.tool_calls
        assert call.function.name in names
        result = run(call.function.name, json.loads(call.function.arguments))
        talk.append({"role": "tool", "tool_call_id": call.id, "content": result})
    # The helper for streams raises where strict tools are there and a reply is cut off.
    fields = {"messages": talk, "tools": tools, "tool_choice": "none", "max_tokens": 8}
    last: Any = program.chat.completions.create(model="smol", stream=stream, **fields)
    said = [c.choices[0].delta for c in last] if stream else [last.choices[0].message]
    assert "".join(part.content or "" for part in said)
    assert not any(part.tool_calls for part in said)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_over_responses(program: openai.OpenAI, stream: bool, kept: bool) -> None:
    """Going on from what is kept, or sending all items each time."""
    tools = [
        {"type": "function", "name": name, "description": told, "parameters": schema}
        for name, (_, schema, told) in FUNCTIONS.items()
    ]
    asked: list[Any] = [{"role": "user", "content": QUESTION}]
    fields: dict[str, Any] = {"model": "smol", "tools": tools, "max_output_tokens": 80}
    fields |= {"parallel_tool_calls": False, "store": kept}
    for choice in ({"type": "function", "name": "look_up"}, "required", "none"):
        fields |= {"input": asked, "tool_choice": choice}
        if stream:
            with program.responses.stream(**fields) as events:
                *_, last = events
            response = last.response  # type: ignore[union-attr]
        else:
            response = program.responses.create(**fields)
        calls = [item for item in response.output if item.type == "function_call"]
        if choice == "none":
            assert response.output_text and not calls
            assert response.status in ("completed", "incomplete")
            break
        (call,) = calls
        result = run(call.name, json.loads(call.arguments))
        output = {"type": "function_call_output", "call_id": call.call_id, "output": result}
        if kept:
            fields["previous_response_id"], asked = response.id, [output]
        else:
            asked = [*asked, *response.output, output]


@pytest.mark.parametrize("stream", [False, True])
async def test_over_messages(async_claude: anthropic.AsyncAnthropic, stream: bool) -> None:
    tools = [
        {"name": name, "description": told, "input_schema": schema, "strict": True}
        for name, (_, schema, told) in FUNCTIONS.items()
    ]
    talk: list[Any] = [{"role": "user", "content": QUESTION}]
    alone = {"disable_parallel_tool_use": True}
    choices = ({"type": "tool", "name": "add"} | alone, {"type": "any"} | alone, {"type": "none"})
    for choice in choices:
        fields: Any = {"model": "smol", "messages": talk, "tools": tools, "max_tokens": 80}
        fields["tool_choice"] = choice
        if stream:
            async with async_claude.messages.stream(**fields) as events:
                message = await events.get_final_message()
        else:
            message = await async_claude.messages.create(**fields)
        calls = [block for block in message.content if block.type == "tool_use"]
        if choice["type"] == "none":
            assert message.stop_reason in ("end_turn", "max_tokens") and not calls
            break
        (call,) = calls
        assert message.stop_reason == "tool_use"
        assert call.name == choice.get("name", call.name)
        content = run(call.name, call.input)
        result = {"type": "tool_result", "tool_use_id": call.id, "content": content}
        talk += [{"role": "assistant", "content": message.content}]
        talk += [{"role": "user", "content": [result]}]
    assert len(talk) == 5


def test_anthropics_own_runner(claude: anthropic.Anthropic) -> None:
    """Which calls functions by itself, for as long as the model does."""
    cities: list[str] = []

    # Of free text the model may write more than it has tokens for.
    @beta_tool
    def weather(city: Literal["Bonn", "Rome"]) -> str:
        """Tells how warm it is.

        Args:
            city: Where.
        """
        cities.append(city)
        return "warm"

    runner = claude.beta.messages.tool_runner(
        model="smol",
        max_tokens=80,
        messages=[{"role": "user", "content": QUESTION}],
        tools=[weather],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        max_iterations=2,
    )
    assert [message.stop_reason for message in runner]
    assert cities and set(cities) <= {"Bonn", "Rome"}


def test_several_calls_at_once(program: openai.OpenAI) -> None:
    """As many as the model likes; each is whole, and has an id of its own."""
    tools = [
        {"type": "function", "function": {"name": "look_up", "parameters": LOOK_UP}},
    ]
    fields = {"tools": tools, "tool_choice": "required", "max_tokens": 120}
    talk = [{"role": "user", "content": "How warm is it in Bonn, and how warm in Rome?"}]
    answer = chat_step(program, False, messages=talk, **fields)
    calls = answer.message.tool_calls
    whole = calls if answer.finish_reason == "tool_calls" else calls[:-1]
    assert calls and len({call.id for call in calls}) == len(calls)
    for call in whole:
        assert run(call.function.name, json.loads(call.function.arguments))
