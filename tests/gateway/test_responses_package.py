"""The Responses API as the `openai` package knows it: sync, async, streamed, parsed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from openai.types.responses import Response
from pydantic import BaseModel, ConfigDict

from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Said
from swarm.gateway.openai.responses import endpoints
from swarm.gateway.refusals import Reason, Refusal

WORDS = [Said(0, "Blue"), Said(0, " sky."), Ended(0, Ending.END)]
CALLS = [
    Said(0, "Let me see."),
    CallBegun(0, 0, "call_1", "look"),
    CallPart(0, 0, '{"at":"s'),
    CallPart(0, 0, 'ky"}'),
    CallBegun(0, 1, "call_2", "look"),
    CallPart(0, 1, '{"at":"sea"}'),
    Ended(0, Ending.CALLS),
]
LOOK: Any = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"at": {"type": "string"}},
        "required": ["at"],
        "additionalProperties": False,
    },
}


@pytest.fixture
async def url(serve: Any) -> AsyncIterator[str]:
    async with serve(endpoints()) as client:
        yield str(client.make_url("/v1"))


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
        yield client


def _is_typed(response: Response) -> bool:
    """Whether it is what the package says that it is; by itself the package does not look."""
    Response.model_validate(response.to_dict())
    return True


async def test_sync(url: str, scripted: Any) -> None:
    scripted.events = WORDS

    def ask() -> tuple[Response, list[str], Response]:
        with OpenAI(base_url=url, api_key="x", max_retries=0) as client:
            plain = client.responses.create(model="tiny", input="?")
            with client.responses.create(model="tiny", input="?", stream=True) as stream:
                kinds = [event.type for event in stream]
            return plain, kinds, client.responses.retrieve(plain.id)

    plain, kinds, kept = await asyncio.to_thread(ask)
    assert plain.output_text == "Blue sky."
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert kept == plain
    assert _is_typed(plain)


async def test_async(client: AsyncOpenAI, scripted: Any) -> None:
    scripted.events = CALLS
    plain = await client.responses.create(
        model="tiny", input=[{"role": "user", "content": "?"}], tools=[LOOK], metadata={"a": "b"}
    )
    assert _is_typed(plain)
    assert [item.type for item in plain.output] == ["message", "function_call", "function_call"]
    assert plain.usage is not None
    assert plain.usage.input_tokens_details.cached_tokens == 2
    await client.responses.delete(plain.id)
    with pytest.raises(openai.NotFoundError, match=plain.id):
        await client.responses.retrieve(plain.id)


async def test_events_have_their_types(client: AsyncOpenAI, scripted: Any) -> None:
    scripted.events = CALLS
    async with await client.responses.create(
        model="tiny", input="?", tools=[LOOK], stream=True
    ) as stream:
        events = [event async for event in stream]
    for event in events:
        type(event).model_validate(event.to_dict())


async def test_the_stream_helper(client: AsyncOpenAI, scripted: Any) -> None:
    scripted.events = CALLS
    async with client.responses.stream(model="tiny", input="?", tools=[LOOK]) as stream:
        snapshots = [
            event.snapshot
            async for event in stream
            if event.type
            in ("response.output_text.delta", "response.function_call_arguments.delta")
        ]
        final = await stream.get_final_response()
    assert snapshots == ["Let me see.", '{"at":"s', '{"at":"sky"}', '{"at":"sea"}']
    assert [item.type for item in final.output] == ["message", "function_call", "function_call"]
    assert final.output_text == "Let me see."


class Sky(BaseModel):
    """What a reply is made into."""

    model_config = ConfigDict(extra="forbid")
    colour: str
    clouds: int


class Look(BaseModel):
    """What a call is made into."""

    at: str


async def test_parse(client: AsyncOpenAI, scripted: Any) -> None:
    scripted.events = [Said(0, '{"colour": "blue", "clouds": 2}'), Ended(0, Ending.END)]
    parsed = await client.responses.parse(model="tiny", input="?", text_format=Sky)
    assert parsed.output_parsed == Sky(colour="blue", clouds=2)
    assert scripted.asks[0].sampling.grammar is not None
    async with client.responses.stream(model="tiny", input="?", text_format=Sky) as stream:
        assert (await stream.get_final_response()).output_parsed == parsed.output_parsed
    more: Any = [*parsed.output, {"role": "user", "content": "More?"}]
    await client.responses.parse(model="tiny", input=more, text_format=Sky)
    scripted.events = CALLS
    tool: Any = pydantic_function_tool(Look, name="look")
    function = tool["function"]
    with_calls = await client.responses.parse(
        model="tiny",
        input="?",
        tools=[{"type": "function", "name": "look", **function, "description": "Looks."}],
    )
    calls = [item for item in with_calls.output if item.type == "function_call"]
    assert [call.parsed_arguments for call in calls] == [{"at": "sky"}, {"at": "sea"}]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
async def test_an_agent(client: AsyncOpenAI, scripted: Any, kept: bool, streamed: bool) -> None:
    """The model calls, we do, it goes on; the conversation is kept there, or sent each time."""
    context: list[Any] = [{"role": "user", "content": "Which colours?"}]
    previous: str | None = None
    news = context
    turns = [CALLS, [CallBegun(0, 0, "call_3", "look"), *CALLS[2:4], CALLS[-1]], WORDS]
    for turn in turns:
        scripted.events = turn
        asked: dict[str, Any] = (
            {"input": news, "previous_response_id": previous}
            if kept
            else {"input": context, "store": False}
        )
        response = await _respond(client, streamed, **asked)
        previous = response.id
        news = [
            {"type": "function_call_output", "call_id": item.call_id, "output": "blue"}
            for item in response.output
            if item.type == "function_call"
        ]
        context = [*context, *response.output, *news]
    assert response.output_text == "Blue sky."
    messages = scripted.asks[-1].prompt.messages
    assert [message["role"] for message in messages] == [
        *("user", "assistant", "tool", "tool"),
        *("assistant", "tool"),
    ]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call_1", "call_2"]
    assert messages[1]["content"] == "Let me see."
    assert messages[-1]["tool_call_id"] == "call_3"


async def _respond(client: AsyncOpenAI, streamed: bool, **asked: Any) -> Response:
    if not streamed:
        return await client.responses.create(model="tiny", tools=[LOOK], **asked)
    async with client.responses.stream(model="tiny", tools=[LOOK], **asked) as stream:
        return await stream.get_final_response()


async def test_input_items_and_counts(client: AsyncOpenAI, scripted: Any) -> None:
    scripted.events = WORDS
    first = await client.responses.create(model="tiny", input="one")
    second = await client.responses.create(model="tiny", input="two", previous_response_id=first.id)
    page = await client.responses.input_items.list(second.id, order="asc", limit=2)
    items = [item async for item in page]
    assert [item.type for item in items] == ["message"] * 3
    assert items[1].id == first.output[0].id  # type: ignore[union-attr]
    counted = await client.responses.input_tokens.count(model="tiny", input="one")
    assert counted.input_tokens == 7


async def test_what_breaks_off(client: AsyncOpenAI, scripted: Any) -> None:
    scripted.events = [*CALLS[:3], Refusal(Reason.BUSY, "gone")]
    async with await client.responses.create(
        model="tiny", input="?", tools=[LOOK], stream=True
    ) as stream:
        events = [event async for event in stream]
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "rate_limit_exceeded"
    assert _is_typed(last.response)
    with pytest.raises(openai.RateLimitError):
        await client.responses.create(model="tiny", input="?")


async def test_refusals(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="tiny", input="?", tools=[{"type": "web_search"}])
    assert refused.value.code == "unsupported_parameter"
    assert refused.value.param == "tools[0].type"
    with pytest.raises(openai.NotFoundError):
        await client.responses.create(model="huge", input="?")


async def test_what_a_coding_agent_sends(client: AsyncOpenAI, scripted: Any) -> None:
    """The fields that such programs send each time, whatever the model."""
    scripted.events = WORDS
    body = {
        "model": "tiny",
        "instructions": "You write programs.",
        "input": [
            {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": "Here is a sandbox."}],
            },
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Files?"}],
            },
            {"type": "function_call", "call_id": "c", "name": "shell", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "none"},
        ],
        "tools": [
            {
                "type": "function",
                "name": "shell",
                "description": "Runs a command.",
                "strict": False,
                "parameters": {"type": "object", "properties": {}},
            }
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": None,
        "store": False,
        "stream": True,
        "include": [],
        "prompt_cache_key": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    }
    response = await client.post("/responses", body=body, cast_to=str)
    assert json.loads(str(response).split("data: ")[-1])["type"] == "response.completed"
    roles = [message["role"] for message in scripted.ask.prompt.messages]
    assert roles == ["system", "user", "assistant", "tool"]
    first = scripted.ask.prompt.messages[0]
    assert first["content"] == "You write programs.\n\nHere is a sandbox."
