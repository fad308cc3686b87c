"""The Messages API as the `anthropic` package speaks it: sync, async, with its helpers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pydantic
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_async_tool
from anthropic.lib.tools import ToolError

from swarm.gateway.anthropic.messages import ENDPOINTS
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Said
from swarm.gateway.refusals import Reason, Refusal, TooLong

SAID = [Said(0, "Why "), Said(0, "not?"), Ended(0, Ending.END)]
CALLED = [
    Said(0, "Let me see."),
    CallBegun(0, 0, "toolu_1", "weather"),
    CallPart(0, 0, '{"city": '),
    CallPart(0, 0, '"Bonn"}'),
    Ended(0, Ending.CALLS),
]
ASKED: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hello"}],
}
WEATHER: Any = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture
def anthropics(serve: Any) -> Any:
    """`async with anthropics() as client`: the package's client of a gateway."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[AsyncAnthropic]:
        async with (
            serve(ENDPOINTS) as server,
            AsyncAnthropic(
                base_url=str(server.make_url("")), auth_token="any", max_retries=0
            ) as client,
        ):
            yield client

    return opening


async def test_a_whole_answer(anthropics: Any, scripted: Any) -> None:
    scripted.events = CALLED
    async with anthropics() as client:
        message = await client.messages.create(**ASKED, tools=[WEATHER])
    text, call = message.content
    assert text.text == "Let me see."
    assert (call.id, call.name, call.input) == ("toolu_1", "weather", {"city": "Bonn"})
    assert message.stop_reason == "tool_use"
    assert message.usage.cache_read_input_tokens == 2
    assert message._request_id.startswith("req_")


async def test_synchronously(serve: Any, scripted: Any) -> None:
    scripted.events = SAID

    def ask(url: str) -> tuple[str, list[str]]:
        with Anthropic(base_url=url, api_key="any", max_retries=0) as client:
            whole = client.messages.create(**ASKED).content[0]
            with client.messages.stream(**ASKED) as stream:
                return whole.text, list(stream.text_stream)

    async with serve(ENDPOINTS) as server:
        whole, parts = await asyncio.to_thread(ask, str(server.make_url("")))
    assert (whole, parts) == ("Why not?", ["Why ", "not?"])


@pytest.mark.parametrize("events", [SAID, CALLED], ids=["said", "called"])
@pytest.mark.parametrize("is_beta", [False, True])
async def test_the_accumulated_stream_is_the_whole_answer(
    anthropics: Any, scripted: Any, events: Any, is_beta: bool
) -> None:
    scripted.events = events
    async with anthropics() as client:
        api = client.beta.messages if is_beta else client.messages
        whole = await api.create(**ASKED)
        async with api.stream(**ASKED) as stream:
            streamed = await stream.get_final_message()
    for field in ("content", "stop_reason", "stop_sequence", "usage", "model"):
        told, gathered = getattr(whole, field), getattr(streamed, field)
        if field == "content":
            told, gathered = ([block.to_dict() for block in each] for each in (told, gathered))
        assert gathered == told


async def test_raw_events(anthropics: Any, scripted: Any) -> None:
    scripted.events = SAID
    async with anthropics() as client:
        kinds = [event.type async for event in await client.messages.create(**ASKED, stream=True)]
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_tokens_are_counted(anthropics: Any) -> None:
    async with anthropics() as client:
        counted = await client.messages.count_tokens(
            model="tiny", messages=ASKED["messages"], system="Be brief.", tools=[WEATHER]
        )
        again = await client.beta.messages.count_tokens(model="tiny", messages=ASKED["messages"])
    assert counted.input_tokens == again.input_tokens == 7


async def test_a_tool_runner_runs_tools_until_there_is_an_answer(
    anthropics: Any, scripted: Any
) -> None:
    cities = []

    @beta_async_tool
    async def weather(city: str) -> str:
        """Tells the weather.

        Args:
            city: Where.
        """
        cities.append(city)
        scripted.events = SAID
        return "rain"

    scripted.events = CALLED
    async with anthropics() as client:
        runner = client.beta.messages.tool_runner(**ASKED, tools=[weather])
        final = await runner.until_done()
    assert cities == ["Bonn"]
    assert final.content[0].text == "Why not?"
    first, second = (ask.prompt for ask in scripted.asks)
    assert first.tools[0].parameters["properties"]["city"]["type"] == "string"
    call, result = second.messages[-2:]
    assert call["content"] == "Let me see."
    assert call["tool_calls"][0]["function"]["arguments"] == {"city": "Bonn"}
    assert (result["role"], result["content"]) == ("tool", "rain")


async def test_a_tool_that_fails_says_so_to_the_model(anthropics: Any, scripted: Any) -> None:
    @beta_async_tool
    async def weather(city: str) -> str:
        """Tells the weather."""
        scripted.events = SAID
        raise ToolError(f"no {city}")

    scripted.events = CALLED
    async with anthropics() as client:
        await client.beta.messages.tool_runner(**ASKED, tools=[weather]).until_done()
    assert scripted.asks[1].prompt.messages[-1]["content"] == "Error: no Bonn"


@pytest.mark.parametrize(
    ("refusal", "kind", "status"),
    [
        (Refusal(Reason.UNAUTHORIZED, "who?"), anthropic.AuthenticationError, 401),
        (Refusal(Reason.FORBIDDEN, "no"), anthropic.PermissionDeniedError, 403),
        (Refusal(Reason.UNKNOWN_MODEL, "none"), anthropic.NotFoundError, 404),
        (Refusal(Reason.TOO_LARGE, "big"), anthropic.APIStatusError, 413),
        (Refusal(Reason.BUSY, "later", retry_after=2), anthropic.RateLimitError, 429),
        (Refusal(Reason.FAILED, "oh"), anthropic.InternalServerError, 500),
        (Refusal(Reason.NO_ROUTE, "gap"), anthropic.InternalServerError, 529),
        (TooLong(9, 9, 10, param="messages"), anthropic.BadRequestError, 400),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_refusals_are_the_packages_errors(
    anthropics: Any, scripted: Any, refusal: Refusal, kind: Any, status: int
) -> None:
    scripted.events = [refusal]
    async with anthropics() as client:
        with pytest.raises(kind) as refused:
            await client.messages.create(**ASKED)
    assert refused.value.status_code == status
    assert refused.value.body["type"] == "error"
    assert refused.value.request_id == refused.value.body["request_id"]


async def test_an_overload_is_tried_again(
    serve: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package waits as long as `Retry-After` says, and then asks again by itself.
    scripted.events = [Refusal(Reason.NO_ROUTE, "gap", retry_after=0)]
    waited = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        scripted.events = SAID

    async with (
        serve(ENDPOINTS) as server,
        AsyncAnthropic(base_url=str(server.make_url("")), api_key="any", max_retries=1) as client,
    ):
        monkeypatch.setattr("anyio.sleep", sleep)
        message = await client.messages.create(**ASKED)
    assert message.content[0].text == "Why not?"
    assert len(scripted.asks) == 2
    assert waited == [1.0]


async def test_a_stream_that_breaks_off_raises(anthropics: Any, scripted: Any) -> None:
    scripted.events = [Said(0, "he"), Refusal(Reason.NO_ROUTE, "a gap")]
    heard = []
    async with anthropics() as client:
        with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
            async with client.messages.stream(**ASKED) as stream:
                async for text in stream.text_stream:
                    heard.append(text)
    assert heard == ["he"]


async def test_a_reply_of_a_type(anthropics: Any, scripted: Any) -> None:
    class City(pydantic.BaseModel):
        name: str

    scripted.events = [Said(0, '{"name": "Bonn"}'), Ended(0, Ending.END)]
    async with anthropics() as client:
        parsed = await client.messages.parse(**ASKED, output_format=City)
    assert parsed.parsed_output == City(name="Bonn")
    assert '"name"' in scripted.ask.sampling.grammar.text


async def test_what_an_agent_sends(anthropics: Any, scripted: Any) -> None:
    """A request as a coding agent makes it, with thinking and effort switched off."""
    cached = {"type": "ephemeral"}
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "Where."},
            "edits": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"old": {"type": "string"}, "new": {"type": "string"}},
                    "required": ["old", "new"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    tools: Any = [
        {"name": f"Tool{number}", "description": "Does. " * 200, "input_schema": schema}
        for number in range(20)
    ]
    tools[-1]["cache_control"] = cached
    scripted.events = SAID
    async with anthropics() as client:
        async with client.beta.messages.stream(
            model="tiny",
            max_tokens=32000,
            extra_body={"temperature": 1},
            system=[
                {"type": "text", "text": "You are an agent.", "cache_control": cached},
                {
                    "type": "text",
                    "text": "Rules. " * 3000,
                    "cache_control": {**cached, "ttl": "1h"},
                },
            ],
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "<system-reminder>Mind.</system-reminder>"},
                        {"type": "text", "text": "Fix it.", "cache_control": cached},
                    ],
                }
            ],
            tools=tools,
            metadata={"user_id": "user_0_account__session_0"},
            betas=["claude-code-20250219", "interleaved-thinking-2025-05-14"],
            extra_headers={"x-app": "cli", "anthropic-version": "2023-06-01"},
        ) as stream:
            message = await stream.get_final_message()
    assert message.content[0].text == "Why not?"
    assert len(scripted.ask.prompt.tools) == 20
    system, user = scripted.ask.prompt.messages
    assert system["content"].startswith("You are an agent.\nRules.")
    assert user["content"].endswith("Fix it.")
    assert scripted.ask.sampling.max_new_tokens == 32000
