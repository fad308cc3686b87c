"""`/v1/chat/completions`: what is asked, what is refused, and how answers are told."""

from __future__ import annotations

import asyncio
import json
import typing
from typing import Any

import openai
import pydantic
import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from swarm.client import ChosenToken, Grammar
from swarm.gateway.ask import Talk, Tool, ToolChoice, ToolUse
from swarm.gateway.body import parse
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Event, Said
from swarm.gateway.openai.chat import ENDPOINTS, ChatRequest
from swarm.gateway.openai.chat_answer import Deltas, put_together
from swarm.gateway.refusals import Reason, Refusal

HELLO = [{"role": "user", "content": "Hello"}]

GREETING = (Said(0, "Hi"), Said(0, " there"), Ended(0, Ending.END))

CALLING = (
    CallBegun(0, 0, "call_1", "add"),
    CallPart(0, 0, '{"a":'),
    CallPart(0, 0, "1}"),
    CallBegun(0, 1, "call_2", "now"),
    CallPart(0, 1, "{}"),
    Ended(0, Ending.CALLS),
)

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
NOW = {"type": "function", "function": {"name": "now", "description": "What time it is."}}

CALLS_ADD = {
    "role": "assistant",
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    ],
}


async def post(client: TestClient, **fields: Any) -> tuple[int, dict[str, Any]]:
    body = {"model": "tiny", "messages": HELLO, **fields}
    answer = await client.post("/v1/chat/completions", json=body)
    return answer.status, await answer.json()


async def stream(client: TestClient, **fields: Any) -> list[Any]:
    """The data of a stream's events; JSON where it is any."""
    body = {"model": "tiny", "messages": HELLO, "stream": True, **fields}
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status == 200, await answer.text()
    assert answer.content_type == "text/event-stream"
    lines = [line for line in (await answer.text()).split("\n") if line.startswith("data: ")]
    data = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else json.loads(text) for text in data]


@pytest.fixture
async def client(serve: Any) -> Any:
    async with serve(ENDPOINTS) as client:
        yield client


@pytest.fixture
async def program(client: TestClient) -> Any:
    url = str(client.make_url("/v1"))
    async with openai.AsyncOpenAI(base_url=url, api_key="-", max_retries=0) as program:
        yield program


async def test_a_whole_answer(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    status, answer = await post(client)
    assert status == 200
    ChatCompletion.model_validate(answer, strict=True)
    assert answer.pop("id").startswith("chatcmpl-")
    assert answer.pop("created") > 1_700_000_000
    assert answer == {
        "object": "chat.completion",
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi there", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }


async def test_a_stream(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    *chunks, done = await stream(client)
    assert done == "[DONE]"
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        assert "usage" not in chunk
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        for delta, finish in [
            ({"role": "assistant", "content": ""}, None),
            ({"content": "Hi"}, None),
            ({"content": " there"}, None),
            ({}, "stop"),
        ]
    ]


async def test_a_streams_usage_comes_last(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    *chunks, last, _ = await stream(client, stream_options={"include_usage": True})
    assert [chunk["usage"] for chunk in chunks] == [None] * 4
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 10


async def test_calls_of_tools(client: TestClient, scripted: Any) -> None:
    scripted.events = CALLING
    _, answer = await post(client, tools=[ADD, NOW])
    ChatCompletion.model_validate(answer, strict=True)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
        {"id": "call_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]
    chunks = (await stream(client, tools=[ADD, NOW]))[:-1]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    begun = {"name": "add", "arguments": ""}
    assert deltas[:3] == [
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": begun}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
    ]
    assert deltas[-1] == {}


async def test_logprobs(client: TestClient, scripted: Any) -> None:
    half = ChosenToken(9, "é".encode()[:1], -0.5, ((9, b"\xc3", -0.5), (2, b"</s>", -1.0)))
    rest = ChosenToken(8, "é".encode()[1:], -float("inf"))
    special = ChosenToken(2, b"", -0.25)
    scripted.events = (Said(0, "é", (half, rest)), Said(0, "", (special,)), Ended(0, Ending.END))
    _, answer = await post(client, logprobs=True, top_logprobs=2)
    assert scripted.ask.sampling.logprobs == 2
    ChatCompletion.model_validate(answer, strict=True)
    assert answer["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "\\xc3",
                "bytes": [0xC3],
                "logprob": -0.5,
                "top_logprobs": [
                    {"token": "\\xc3", "bytes": [0xC3], "logprob": -0.5},
                    {"token": "</s>", "bytes": list(b"</s>"), "logprob": -1.0},
                ],
            },
            {"token": "\\xa9", "bytes": [0xA9], "logprob": -9999.0, "top_logprobs": []},
            {"token": "", "bytes": None, "logprob": -0.25, "top_logprobs": []},
        ],
        "refusal": None,
    }


async def test_logprobs_of_an_empty_answer(client: TestClient, scripted: Any) -> None:
    scripted.events = (Ended(0, Ending.END),)
    _, answer = await post(client, logprobs=True)
    (choice,) = answer["choices"]
    assert (choice["message"]["content"], choice["logprobs"]["content"]) == ("", [])


async def test_several_choices(client: TestClient, scripted: Any) -> None:
    scripted.events = (
        Said(1, "b"),
        Said(0, "a"),
        Ended(1, Ending.LENGTH),
        Said(0, "!"),
        Ended(0, Ending.STOP, "x"),
    )
    _, answer = await post(client, n=2)
    assert scripted.ask.num_choices == 2
    told = [(c["index"], c["message"]["content"], c["finish_reason"]) for c in answer["choices"]]
    assert told == [(0, "a!", "stop"), (1, "b", "length")]


async def test_what_sampling_is_asked_for(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    await post(
        client,
        temperature=0.5,
        top_p=0.9,
        presence_penalty=-1,
        frequency_penalty=2,
        logit_bias={"5": -100, "17": 2.5},
        seed=-3,
        stop=["a", "b"],
        max_completion_tokens=9,
        logprobs=True,
    )
    sampling = scripted.ask.sampling
    assert scripted.ask.bounded
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_p) == (9, 0.5, 0.9)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (-1, 2)
    assert sampling.logit_bias == ((5, -100.0), (17, 2.5))
    assert (sampling.seed, sampling.stop, sampling.logprobs) == (
        2**64 - 3,
        ("a", "b"),
        0,
    )


async def test_what_is_not_said_is_as_the_api_has_it(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    nulls = dict.fromkeys(ChatRequest.__struct_fields__[2:])
    for fields in ({}, nulls):
        scripted.asks.clear()
        status, answer = await post(client, **fields)
        assert status == 200
        assert "service_tier" not in answer
        assert "metadata" not in answer
        ask = scripted.ask
        assert (ask.bounded, ask.num_choices, ask.best_of, ask.echo) == (False, 1, None, False)
        assert (ask.sampling.temperature, ask.sampling.top_p) == (1, 1)
        assert (ask.sampling.seed, ask.sampling.stop, ask.sampling.logprobs) == (None, (), None)
        assert ask.prompt == Talk(({"role": "user", "content": "Hello"},))


async def test_top_p_0_leaves_the_likeliest(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    status, _ = await post(client, top_p=0)
    assert status == 200
    assert 0 < scripted.ask.sampling.top_p < 1e-6


async def test_fields_that_identify_change_nothing(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    neutral = {
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "in_memory",
        "metadata": {"run": "7"},
        "store": False,
        "service_tier": "auto",
        "modalities": ["text"],
        "verbosity": "medium",
        "response_format": {"type": "text"},
    }
    status, answer = await post(client, **neutral)
    assert status == 200
    assert (answer["service_tier"], answer["metadata"]) == ("default", {"run": "7"})
    await post(client)
    assert scripted.asks[0] == scripted.asks[1]


async def test_messages_of_all_roles(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    messages = [
        {"role": "developer", "content": "Be brief.", "name": "boss"},
        {"role": "system", "content": [{"type": "text", "text": "a"}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "content": None, "refusal": "never"},
        {**CALLS_ADD, "content": None, "audio": None, "function_call": None, "annotations": []},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "user", "content": "d", "name": "Ann"},
    ]
    status, answer = await post(client, messages=messages)
    assert status == 200, answer
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    assert scripted.ask.prompt.messages == (
        {"role": "system", "content": "Be brief.", "name": "boss"},
        {"role": "system", "content": "a"},
        {"role": "user", "content": "bc"},
        {"role": "assistant", "content": "no"},
        {"role": "assistant", "content": "never"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2", "name": "add", "tool_call_id": "c1"},
        {"role": "user", "content": "d", "name": "Ann"},
    )


async def test_what_the_packages_helpers_add_is_passed_over(
    client: TestClient, scripted: Any
) -> None:
    scripted.events = GREETING
    function = CALLS_ADD["tool_calls"][0]["function"] | {"parsed_arguments": {"a": 1}}
    call = CALLS_ADD["tool_calls"][0] | {"function": function, "index": 0}
    result = {"role": "tool", "tool_call_id": "c1", "content": "2"}
    for message in (CALLS_ADD, {**CALLS_ADD, "tool_calls": [call], "parsed": {"a": 1}}):
        status, answer = await post(client, messages=[*HELLO, message, result])
        assert status == 200, answer
    assert scripted.asks[0] == scripted.asks[1]


async def test_a_call_without_arguments(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": ""}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": ""},
    ]
    await post(client, messages=messages)
    assert scripted.ask.prompt.messages[1]["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.parametrize(
    "messages, param",
    [
        ([], "messages"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": "a", "name": "a b"}], "messages[0].name"),
        ([{"role": "assistant"}], "messages[0].content"),
        ([{"role": "assistant", "content": "a", "refusal": "b"}], "messages[0].refusal"),
        ([CALLS_ADD], "messages"),
        ([CALLS_ADD, *HELLO], "messages[1]"),
        ([{"role": "tool", "tool_call_id": "c1", "content": ""}], "messages[0].tool_call_id"),
        (
            [CALLS_ADD, {"role": "tool", "tool_call_id": "c2", "content": ""}],
            "messages[1].tool_call_id",
        ),
        (
            [CALLS_ADD, *[{"role": "tool", "tool_call_id": "c1", "content": ""}] * 2],
            "messages[2].tool_call_id",
        ),
        (
            [{**CALLS_ADD, "tool_calls": CALLS_ADD["tool_calls"] * 2}],
            "messages[0].tool_calls",
        ),
    ],
)
async def test_messages_that_are_wrong(
    client: TestClient, scripted: Any, messages: list[Any], param: str
) -> None:
    status, answer = await post(client, messages=messages)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["param"] == param
    assert not scripted.asks


@pytest.mark.parametrize("arguments", ["{", "1", "[]", "null", '{"a": 1} {}', "[" * 9999])
async def test_arguments_that_are_no_object(client: TestClient, arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": arguments}}
    messages = [{"role": "assistant", "tool_calls": [call]}]
    status, answer = await post(client, messages=messages)
    assert status == 400
    assert answer["error"]["param"] == "messages[0].tool_calls[0].function.arguments"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
    ],
)
async def test_other_than_text_is_refused(client: TestClient, part: dict[str, Any]) -> None:
    status, answer = await post(client, messages=[{"role": "user", "content": [part]}])
    assert status == 400
    assert answer["error"]["code"] == "unsupported_parameter"
    assert answer["error"]["param"] == "messages[0].content[0].type"
    assert "text alone" in answer["error"]["message"]


UNSUPPORTED = {
    "audio": {"format": "wav", "voice": "a"},
    "function_call": "auto",
    "functions": [{"name": "add"}],
    "moderation": {"model": "m"},
    "prediction": {"type": "content", "content": "a"},
    "prompt_cache_options": {"mode": "implicit"},
    "reasoning_effort": "low",
    "web_search_options": {},
}


def test_every_field_of_the_package_is_known() -> None:
    theirs = set(typing.get_type_hints(CompletionCreateParamsStreaming))
    assert theirs == set(ChatRequest.__struct_fields__)
    refused = {name for name, kind in ChatRequest.__annotations__.items() if kind == "None"}
    assert refused == set(UNSUPPORTED)


@pytest.mark.parametrize("field", [*UNSUPPORTED, "top_k", "nonsense"])
async def test_what_is_not_supported_is_refused_by_name(
    client: TestClient, scripted: Any, field: str
) -> None:
    status, answer = await post(client, **{field: UNSUPPORTED.get(field, 1)})
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["code"] == "unsupported_parameter"
    assert answer["error"]["param"] == field
    assert not scripted.asks


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"store": True}, "store"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"verbosity": "low"}, "verbosity"),
        ({"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
        ({"modalities": ["audio"]}, "modalities[0]"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type"),
        (
            {"tools": [ADD], "tool_choice": {"type": "custom", "custom": {"name": "a"}}},
            "tool_choice.type",
        ),
        ({"messages": [{"role": "function", "name": "a", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
async def test_values_that_are_not_supported(
    client: TestClient, fields: dict[str, Any], param: str
) -> None:
    status, answer = await post(client, **fields)
    assert (status, answer["error"]["code"]) == (400, "unsupported_parameter")
    assert answer["error"]["param"] == param


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": list("abcde")}, "stop"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"01": 1}}, "logit_bias"),
        ({"logit_bias": {"١": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"metadata": {"a" * 65: ""}}, "metadata"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [ADD, ADD]}, "tools[1].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "a\n"}}]},
            "tools[0].function.name",
        ),
        (
            {"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "now"}}},
            "tool_choice",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "nothing"}},
                }
            },
            "response_format",
        ),
    ],
)
async def test_values_that_are_wrong(
    client: TestClient, scripted: Any, fields: dict[str, Any], param: str
) -> None:
    status, answer = await post(client, **fields)
    assert status == 400
    assert (answer["error"]["param"], answer["error"]["code"]) == (param, None)
    assert not scripted.asks


NAMED_ADD = {"type": "function", "function": {"name": "add"}}


def allowed(mode: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [NAMED_ADD]}}


@pytest.mark.parametrize(
    "fields, choice, names",
    [
        ({}, ToolChoice(), ["add", "now"]),
        ({"tool_choice": "none"}, ToolChoice(ToolUse.NONE), ["add", "now"]),
        ({"tool_choice": "required"}, ToolChoice(ToolUse.REQUIRED), ["add", "now"]),
        ({"tool_choice": NAMED_ADD}, ToolChoice(ToolUse.REQUIRED, "add"), ["add", "now"]),
        ({"tool_choice": allowed("auto")}, ToolChoice(), ["add"]),
        ({"tool_choice": allowed("required")}, ToolChoice(ToolUse.REQUIRED), ["add"]),
        ({"parallel_tool_calls": False}, ToolChoice(parallel=False), ["add", "now"]),
    ],
)
async def test_tools_and_how_they_are_chosen(
    client: TestClient, scripted: Any, fields: dict[str, Any], choice: ToolChoice, names: list[str]
) -> None:
    scripted.events = GREETING
    await post(client, tools=[ADD, NOW], **fields)
    assert scripted.ask.prompt.tool_choice == choice
    assert [tool.name for tool in scripted.ask.prompt.tools] == names


async def test_a_tool_is_told_as_it_was_given(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    function = {"name": "add", "description": "Adds.", "parameters": schema, "strict": True}
    await post(client, tools=[{"type": "function", "function": function}])
    assert scripted.ask.prompt.tools == (Tool("add", "Adds.", schema, strict=True),)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    "format, grammar",
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Grammar.json_object()),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
            Grammar.json_schema(SCHEMA),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
            Grammar.json_schema(SCHEMA),
        ),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, Grammar.json_schema({})),
    ],
)
async def test_formats_of_replies(
    client: TestClient, scripted: Any, format: dict[str, Any], grammar: Grammar | None
) -> None:
    scripted.events = GREETING
    status, answer = await post(client, response_format=format)
    assert status == 200, answer
    assert scripted.ask.sampling.grammar == grammar
    assert scripted.ask.prompt.messages == tuple(HELLO)


async def test_the_model_reads_a_schemas_description(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    schema = {"name": "sum", "schema": SCHEMA, "description": "A sum."}
    format = {"type": "json_schema", "json_schema": schema}
    told = "The reply is JSON, sum: A sum."
    await post(client, response_format=format)
    assert scripted.asks[0].prompt.messages == ({"role": "system", "content": told}, *HELLO)
    system = {"role": "system", "content": "Be brief."}
    await post(client, messages=[system, *HELLO], response_format=format)
    assert scripted.asks[1].prompt.messages[0]["content"] == f"Be brief.\n\n{told}"


async def test_the_package_parses_what_a_schema_holds(
    program: openai.AsyncOpenAI, scripted: Any
) -> None:
    class Sum(pydantic.BaseModel):
        total: int

    scripted.events = (Said(0, '{"total": 4}'), Ended(0, Ending.END))
    answer = await program.chat.completions.parse(model="tiny", messages=HELLO, response_format=Sum)
    assert answer.choices[0].message.parsed == Sum(total=4)
    assert scripted.ask.sampling.grammar is not None


async def test_an_unknown_model(client: TestClient) -> None:
    status, answer = await post(client, model="gpt")
    assert status == 404
    assert (answer["error"]["code"], answer["error"]["param"]) == ("model_not_found", "model")


async def test_a_refusal_in_midstream_is_the_streams_last_event(
    client: TestClient, scripted: Any, program: openai.AsyncOpenAI
) -> None:
    scripted.events = (Said(0, "Hi"), Refusal(Reason.NO_ROUTE, "blocks are missing"))
    *_, last = await stream(client)
    assert last["error"]["code"] == "no_route"
    with pytest.raises(openai.APIError, match="blocks are missing"):
        async for _ in await program.chat.completions.create(
            model="tiny", messages=HELLO, stream=True
        ):
            pass
    assert scripted.num_ended == 2


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_refusal_before_the_first_word_has_its_status(
    client: TestClient, scripted: Any, streamed: bool
) -> None:
    scripted.events = (Refusal(Reason.BUSY, "too much", retry_after=3),)
    answer = await client.post(
        "/v1/chat/completions", json={"model": "tiny", "messages": HELLO, "stream": streamed}
    )
    assert (answer.status, answer.headers["Retry-After"]) == (429, "3")


async def test_the_package_reads_answers_and_streams(
    program: openai.AsyncOpenAI, scripted: Any
) -> None:
    scripted.events = GREETING
    answer = await program.chat.completions.create(model="tiny", messages=HELLO)
    assert answer.choices[0].message.content == "Hi there"
    assert answer.usage and answer.usage.prompt_tokens_details
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    async with program.chat.completions.stream(model="tiny", messages=HELLO) as told:
        final = await told.get_final_completion()
    assert final.choices[0].message.content == "Hi there"
    assert final.choices[0].finish_reason == "stop"


async def test_the_synchronous_package(client: TestClient, scripted: Any) -> None:
    scripted.events = GREETING
    url = str(client.make_url("/v1"))

    def ask() -> list[str | None]:
        with openai.OpenAI(base_url=url, api_key="-", max_retries=0) as program:
            chunks = program.chat.completions.create(model="tiny", messages=HELLO, stream=True)
            return [chunk.choices[0].delta.content for chunk in chunks]

    assert await asyncio.to_thread(ask) == ["", "Hi", " there", None]


async def test_an_agents_loop_with_the_package(program: openai.AsyncOpenAI, scripted: Any) -> None:
    scripted.events = CALLING
    messages: list[Any] = list(HELLO)
    answer = await program.chat.completions.create(
        model="tiny", messages=messages, tools=[ADD, NOW]
    )
    message = answer.choices[0].message
    messages.append(message)
    for call in message.tool_calls or ():
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "2"})
    scripted.events = GREETING
    await program.chat.completions.create(model="tiny", messages=messages, tools=[ADD, NOW])
    roles = [said["role"] for said in scripted.asks[1].prompt.messages]
    assert roles == ["user", "assistant", "tool", "tool"]


async def test_errors_of_the_package(program: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await program.chat.completions.create(model="tiny", messages=HELLO, reasoning_effort="high")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "reasoning_effort")
    with pytest.raises(openai.NotFoundError):
        await program.chat.completions.create(model="gpt", messages=HELLO)


@st.composite
def choice_events(draw: st.DrawFn, choice: int) -> list[Event]:
    """One choice's events, from its beginning to its end."""
    tokens = st.binary(max_size=3).map(lambda raw: (ChosenToken(1, raw, -1.0),))
    words = st.lists(st.builds(Said, st.just(choice), st.text(max_size=4), tokens), max_size=4)
    events: list[Event] = list(draw(words))
    num_calls = draw(st.integers(0, 2))
    for index in range(num_calls):
        events.append(CallBegun(choice, index, f"call_{index}", "add"))
        parts = draw(st.lists(st.text(max_size=4), max_size=3))
        events += [CallPart(choice, index, part) for part in parts]
        events += draw(words)
    ending = Ending.CALLS if num_calls else draw(st.sampled_from([Ending.END, Ending.LENGTH]))
    return [*events, Ended(choice, ending)]


@st.composite
def interleaved(draw: st.DrawFn) -> list[Event]:
    """Events of one to three choices, each in its order, in any order between them."""
    queues = [draw(choice_events(choice)) for choice in range(draw(st.integers(1, 3)))]
    events: list[Event] = []
    while waiting := [queue for queue in queues if queue]:
        events.append(draw(st.sampled_from(waiting)).pop(0))
    return events


@given(interleaved(), st.booleans())
def test_a_stream_comes_to_the_same_as_the_whole(events: list[Event], logprobs: bool) -> None:
    deltas = Deltas(logprobs=logprobs)
    chunks = [choice for event in events for choice in deltas.push(event)]
    for choice in put_together(chunks, logprobs=logprobs):
        own = [event for event in events if event.choice == choice.index]
        said = [event for event in own if isinstance(event, Said)]
        assert (choice.message.content or "") == "".join(event.text for event in said)
        begun = [event for event in own if isinstance(event, CallBegun)]
        calls = choice.message.tool_calls or []
        assert [(call.id, call.function.name) for call in calls] == [
            (event.id, event.name) for event in begun
        ]
        for index, call in enumerate(calls):
            parts = [e.arguments for e in own if isinstance(e, CallPart) and e.index == index]
            assert call.function.arguments == "".join(parts)
        if logprobs:
            assert choice.logprobs is not None
            shown = [token for event in said for token in event.tokens]
            assert [token.bytes or [] for token in choice.logprobs.content] == [
                list(token.raw) for token in shown
            ]
        else:
            assert choice.logprobs is None
        first = next(chunk for chunk in chunks if chunk.index == choice.index)
        assert first.delta.role == "assistant"


@given(st.text())
def test_any_text_survives_the_way_in(text: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    try:
        raw = json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert parse(raw, ChatRequest).messages[0].content == text
