"""The Messages API over plain HTTP: what becomes of its fields, its answers, its refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import ClientResponse

from swarm.gateway.anthropic.messages import ENDPOINTS
from swarm.gateway.ask import Talk, ToolUse
from swarm.gateway.config import GatewayConfig
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Said, Usage
from swarm.gateway.refusals import Reason, Refusal, TooLong

HELLO = {"role": "user", "content": "hello"}
WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bonn"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}


def _body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "max_tokens": 9, "messages": [HELLO], **fields}


@pytest.fixture
def ask(serve: Any, scripted: Any) -> Any:
    """Posts a body made of these fields; gives the answer's status and JSON."""
    if not scripted.events:
        scripted.events = [Said(0, "hi"), Ended(0, Ending.END)]

    async def asking(**fields: Any) -> tuple[int, Any]:
        async with serve(ENDPOINTS) as client:
            answer = await client.post("/v1/messages", json=_body(**fields))
            return answer.status, await answer.json()

    return asking


def _events(text: str) -> list[dict[str, Any]]:
    events = []
    for part in text.strip().split("\n\n"):
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


async def test_a_whole_answer(ask: Any, scripted: Any) -> None:
    status, answer = await ask()
    assert status == 200
    assert answer.pop("id").startswith("msg_")
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [{"type": "text", "text": "hi", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 2,
            "cache_creation_input_tokens": 0,
            "output_tokens": 3,
            "service_tier": "standard",
        },
    }
    assert scripted.num_ended == 1


async def test_a_streamed_answer(serve: Any, scripted: Any) -> None:
    scripted.events = [
        Said(0, "let me "),
        Said(0, ""),
        Said(0, "see"),
        CallBegun(0, 0, "toolu_1", "weather"),
        CallPart(0, 0, '{"city":'),
        CallPart(0, 0, '"Bonn"}'),
        CallBegun(0, 1, "toolu_2", "time"),
        Ended(0, Ending.CALLS),
    ]
    async with serve(ENDPOINTS) as client:
        answer = await client.post("/v1/messages?beta=true", json=_body(stream=True))
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["request-id"].startswith("req_")
        events = _events(await answer.text())
    start, *blocks, delta, stop = events
    assert start["message"]["content"] == []
    assert start["message"]["stop_reason"] is None
    assert start["message"]["usage"]["input_tokens"] == 5
    assert [(event["type"], event["index"]) for event in blocks] == [
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_stop", 2),
    ]
    assert blocks[2]["delta"] == {"type": "text_delta", "text": "see"}
    called = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    assert blocks[4]["content_block"] == called
    assert blocks[5]["delta"] == {"type": "input_json_delta", "partial_json": '{"city":'}
    assert delta["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert delta["usage"]["output_tokens"] == 3
    assert stop == {"type": "message_stop"}


@pytest.mark.parametrize(
    ("ended", "reason", "sequence"),
    [
        (Ended(0, Ending.END), "end_turn", None),
        (Ended(0, Ending.STOP, "END"), "stop_sequence", "END"),
        (Ended(0, Ending.LENGTH), "max_tokens", None),
        (Ended(0, Ending.CALLS), "tool_use", None),
    ],
)
async def test_why_it_ended(
    ask: Any, scripted: Any, ended: Ended, reason: str, sequence: str | None
) -> None:
    scripted.events = [ended]
    _, answer = await ask()
    assert (answer["stop_reason"], answer["stop_sequence"]) == (reason, sequence)
    assert answer["content"] == []


async def test_sampling_is_what_was_asked_for(ask: Any, scripted: Any) -> None:
    await ask(
        temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["A", "B"], metadata={"user_id": "u"}
    )
    sampling = scripted.ask.sampling
    assert (sampling.max_new_tokens, sampling.temperature) == (9, 0.5)
    assert (sampling.top_p, sampling.top_k, sampling.stop) == (0.9, 7, ("A", "B"))
    assert scripted.ask.bounded


async def test_the_second_version_has_no_parameters_of_sampling(serve: Any, scripted: Any) -> None:
    scripted.events = [Ended(0, Ending.END)]
    async with serve(ENDPOINTS) as client:
        for version, field, status in [
            ("2023-06-01", {"temperature": 1}, 200),
            ("2026-10-21", {}, 200),
            ("2026-10-21", {"temperature": 1}, 400),
            ("2026-10-21", {"top_p": 1}, 400),
            ("2026-10-21", {"top_k": 0}, 400),
            ("2023-01-01", {}, 400),
        ]:
            answer = await client.post(
                "/v1/messages", json=_body(**field), headers={"anthropic-version": version}
            )
            assert (version, field, answer.status) == (version, field, status)


async def test_without_a_temperature_it_is_the_apis(ask: Any, scripted: Any) -> None:
    await ask()
    assert scripted.ask.sampling.temperature == 1.0


@pytest.mark.parametrize("field", ["output_config", "output_format"])
async def test_a_format_becomes_a_grammar(ask: Any, scripted: Any, field: str) -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}
    status, _ = await ask(**{field: {"format": wanted} if field == "output_config" else wanted})
    assert status == 200
    assert '"additionalProperties": false' in scripted.ask.sampling.grammar.text


async def test_a_conversation_with_tools(ask: Any, scripted: Any) -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    status, _ = await ask(
        system=[{"type": "text", "text": "Be"}, {"type": "text", "text": "brief"}],
        messages=[
            {"role": "user", "content": "weather"},
            {"role": "user", "content": [{"type": "text", "text": "in Bonn?"}]},
            {"role": "assistant", "content": [thought, hidden]},
            {"role": "assistant", "content": [thought, {"type": "text", "text": "wait"}, CALL]},
            {"role": "user", "content": [RESULT | {"is_error": True}, _text("and?")]},
        ],
        tools=[WEATHER | {"strict": True, "cache_control": {"type": "ephemeral"}}],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
    )
    assert status == 200
    prompt = scripted.ask.prompt
    assert isinstance(prompt, Talk)
    assert prompt.messages == (
        {"role": "system", "content": "Be\nbrief"},
        {"role": "user", "content": "weather\nin Bonn?"},
        {
            "role": "assistant",
            "content": "wait",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": {"city": "Bonn"}},
                }
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "toolu_1",
            "name": "weather",
            "content": "Error: rain",
        },
        {"role": "user", "content": "and?"},
    )
    (tool,) = prompt.tools
    assert (tool.name, tool.description, tool.strict) == ("weather", "Tells the weather.", True)
    assert tool.parameters == WEATHER["input_schema"]
    assert prompt.tool_choice.use is ToolUse.AUTO
    assert not prompt.tool_choice.parallel


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    ("choice", "use", "name"),
    [
        (None, ToolUse.AUTO, None),
        ({"type": "auto"}, ToolUse.AUTO, None),
        ({"type": "any"}, ToolUse.REQUIRED, None),
        ({"type": "tool", "name": "weather"}, ToolUse.REQUIRED, "weather"),
        ({"type": "none"}, ToolUse.NONE, None),
    ],
)
async def test_choices_of_tools(
    ask: Any, scripted: Any, choice: Any, use: ToolUse, name: str | None
) -> None:
    await ask(tools=[WEATHER], tool_choice=choice)
    chosen = scripted.ask.prompt.tool_choice
    assert (chosen.use, chosen.name, chosen.parallel) == (use, name, True)


async def test_a_reply_that_is_begun_is_the_last_message(ask: Any, scripted: Any) -> None:
    begun = [{"role": "assistant", "content": "The"}, {"role": "assistant", "content": " sky"}]
    await ask(messages=[HELLO, *begun])
    assert scripted.ask.prompt.messages[-1] == {"role": "assistant", "content": "The sky"}


async def test_a_reply_begun_with_nothing_is_none(ask: Any, scripted: Any) -> None:
    await ask(messages=[HELLO, {"role": "assistant", "content": ""}])
    assert scripted.ask.prompt.messages == (HELLO,)


async def test_instructions_in_midst_of_a_conversation(ask: Any, scripted: Any) -> None:
    await ask(messages=[HELLO, {"role": "system", "content": "be kind"}])
    assert scripted.ask.prompt.messages == (HELLO, {"role": "system", "content": "be kind"})


REFUSED = [
    ({"max_tokens": 0}, "max_tokens: Expected `int` >= 1"),
    ({"temperature": 1.5}, "temperature: "),
    ({"top_p": 0}, "top_p: "),
    ({"top_k": -1}, "top_k: "),
    ({"stop_sequences": [" "]}, "stop_sequences.0: "),
    ({"stop_sequences": ["a"] * 65}, "stop_sequences: "),
    ({"stop_sequences": ["a" * 1025]}, "stop_sequences.0: "),
    ({"messages": []}, "messages: at least one message is required"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages.0: must have non-empty content"),
    ({"messages": [{"role": "user", "content": [_text("")]}]}, "messages.0.content.0.text: "),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: 'robot'"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
        "messages.0.content.0.type: 'image' is not supported",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
        "messages.0.content.0.type: 'document' is not supported",
    ),
    ({"messages": [{"role": "user", "content": [CALL]}]}, "messages.0.content.0.type: 'tool_use'"),
    ({"messages": [HELLO, {"role": "assistant", "content": "so "}]}, "messages: final assistant"),
    (
        {"messages": [HELLO, {"role": "assistant", "content": [CALL]}]},
        "messages.1: `tool_use` ids were found without `tool_result`",
    ),
    (
        {"messages": [HELLO, {"role": "assistant", "content": [CALL]}, HELLO]},
        "messages.2: `tool_use` ids were found without `tool_result`",
    ),
    (
        {"messages": [HELLO, {"role": "assistant", "content": [CALL, CALL]}]},
        "messages.1: `tool_use` ids must be unique",
    ),
    ({"messages": [{"role": "user", "content": [RESULT]}]}, "messages.0: unexpected `tool_use_id`"),
    (
        {
            "messages": [
                HELLO,
                {"role": "assistant", "content": [CALL]},
                {"role": "user", "content": [RESULT, RESULT]},
            ]
        },
        "messages.2: each tool_use must have a single result",
    ),
    (
        {
            "messages": [
                HELLO,
                {"role": "assistant", "content": [CALL]},
                {"role": "user", "content": [_text("so"), RESULT]},
            ]
        },
        "messages.2: `tool_result` blocks must come before any text",
    ),
    ({"tool_choice": {"type": "auto"}}, "tool_choice: may only be specified while"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}},
        "tool_choice.name: there is no such tool",
    ),
    ({"tools": [WEATHER, WEATHER]}, "tools: names must be unique"),
    ({"tools": [WEATHER | {"name": "no spaces"}]}, "tools.0.name: "),
    ({"tools": [WEATHER | {"input_schema": {}}]}, "tools.0.input_schema.type: must be `object`"),
    ({"tools": [WEATHER | {"defer_loading": True}]}, "tools.0.defer_loading: "),
    ({"tools": [WEATHER | {"eager_input_streaming": False}]}, "tools.0.eager_input_streaming: "),
    (
        {"tools": [WEATHER | {"input_examples": [{}]}]},
        "tools.0.input_examples: Extra inputs are not permitted",
    ),
    (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools.0.type: ",
    ),
    (
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        "tools.0.type: ",
    ),
    ({"thinking": {"type": "adaptive"}}, "thinking.type: 'adaptive' is not supported"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type: 'enabled' is not"),
    ({"output_config": {"effort": "low"}}, "output_config.effort: 'low' is not supported"),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": {"if": {}, "minimum": []}}}},
        "",
    ),
    ({"context_management": {"edits": []}}, "context_management: Extra inputs are not permitted"),
    ({"mcp_servers": []}, "mcp_servers: Extra inputs are not permitted"),
    ({"container": "c"}, "container: Extra inputs are not permitted"),
    ({"service_tier": "priority"}, "service_tier: "),
    ({"speed": "fast"}, "speed: "),
    ({"frequency_penalty": 1}, "frequency_penalty: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("fields", "said"), REFUSED, ids=lambda value: str(value)[:60])
async def test_what_cannot_be_done_is_refused(
    ask: Any, scripted: Any, fields: dict[str, Any], said: str
) -> None:
    status, answer = await ask(**fields)
    assert status == 400
    assert answer["type"] == "error"
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["message"].startswith(said)
    assert answer["request_id"].startswith("req_")
    assert not scripted.asks


async def test_a_format_cannot_be_held_to_in_a_reply_that_is_begun(ask: Any) -> None:
    status, answer = await ask(
        messages=[HELLO, {"role": "assistant", "content": "{"}],
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    assert status == 400
    assert "begun" in answer["error"]["message"]


async def _refused(answer: ClientResponse) -> tuple[int, str]:
    body = await answer.json()
    assert body["request_id"] == answer.headers["request-id"]
    return answer.status, body["error"]["type"]


async def test_other_refusals(serve: Any, scripted: Any) -> None:
    async with serve(ENDPOINTS, GatewayConfig(most_body=1000)) as client:
        unknown = await client.post("/v1/messages", json=_body(model="claude"))
        assert await _refused(unknown) == (404, "not_found_error")
        scripted.events = [Refusal(Reason.BUSY, "later", retry_after=3)]
        busy = await client.post("/v1/messages", json=_body())
        assert await _refused(busy) == (429, "rate_limit_error")
        assert busy.headers["Retry-After"] == "3"
        scripted.events = [Refusal(Reason.NO_ROUTE, "a gap", retry_after=10)]
        gap = await client.post("/v1/messages", json=_body(stream=True))
        assert await _refused(gap) == (529, "overloaded_error")
        scripted.events = [TooLong(3000, 9, 2048, param="messages")]
        long = await client.post("/v1/messages", json=_body())
        assert await _refused(long) == (400, "invalid_request_error")
        late = await client.post(
            "/v1/messages", json=_body(), headers={"anthropic-version": "2023-01-01"}
        )
        assert await _refused(late) == (400, "invalid_request_error")
        huge = await client.post("/v1/messages", json=_body(model="x" * 2000))
        assert await _refused(huge) == (413, "request_too_large")


async def test_a_stream_that_breaks_off_says_so(serve: Any, scripted: Any) -> None:
    scripted.events = [Said(0, "he"), Refusal(Reason.NO_ROUTE, "a gap")]
    async with serve(ENDPOINTS) as client:
        answer = await client.post("/v1/messages", json=_body(stream=True))
        *_, last = _events(await answer.text())
    assert last["error"] == {"type": "overloaded_error", "message": "a gap"}
    assert scripted.num_ended == 1


async def test_a_whole_answer_that_breaks_off_is_none(ask: Any, scripted: Any) -> None:
    scripted.events = [Said(0, "he"), Refusal(Reason.NO_ROUTE, "a gap")]
    status, answer = await ask()
    assert (status, answer["type"]) == (529, "error")


async def test_tokens_are_counted(serve: Any, scripted: Any) -> None:
    scripted.usage = Usage(42, 0, 0)
    body = {"model": "tiny", "messages": [HELLO], "tools": [WEATHER]}
    async with serve(ENDPOINTS) as client:
        counted = await client.post("/v1/messages/count_tokens", json=body)
        assert await counted.json() == {"input_tokens": 42}
        more = await client.post("/v1/messages/count_tokens", json=body | {"max_tokens": 1})
        assert (await more.json())["error"][
            "message"
        ] == "max_tokens: Extra inputs are not permitted"
        unknown = await client.post("/v1/messages/count_tokens", json=body | {"model": "x"})
        assert unknown.status == 404
