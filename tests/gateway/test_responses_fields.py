"""Every field that the `openai` package can send is taken, or refused by its name."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Iterable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from aiohttp.test_utils import TestClient
from openai.types import responses as sent
from openai.types.responses import response_create_params, response_input_item_param, tool_param
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.shared_params.reasoning import Reasoning

from swarm.gateway.openai.responses import body, endpoints, items


@pytest.fixture
async def client(serve: Any) -> AsyncIterator[TestClient]:
    async with serve(endpoints()) as client:
        yield client


def _names(kinds: Iterable[Any]) -> set[str]:
    return {name for kind in kinds for name in get_type_hints(kind)}


def _taken(kind: type[msgspec.Struct]) -> set[str]:
    """Fields that may be something else than null."""
    fields = msgspec.structs.fields(kind)
    return {field.encode_name for field in fields if field.type is not type(None)}


CREATE = (
    response_create_params.ResponseCreateParamsNonStreaming,
    response_create_params.ResponseCreateParamsStreaming,
)
INSIDE = {
    "tools[0]": (
        {"type": "function", "name": "f"},
        [sent.FunctionToolParam],
        body.FunctionTool,
    ),
    "text": ({}, [sent.ResponseTextConfigParam], body.TextConfig),
    "text.format": (
        {"type": "json_schema", "name": "a", "schema": {"type": "object"}},
        [sent.ResponseFormatTextJSONSchemaConfigParam],
        body.SchemaFormat,
    ),
    "reasoning": ({}, [Reasoning], body.Reasoning),
    "stream_options": ({}, [response_create_params.StreamOptions], body.StreamOptions),
    "tool_choice": (
        {"type": "function", "name": "f"},
        [sent.ToolChoiceFunctionParam],
        body.FunctionChoice,
    ),
    "input[0]": (
        {"type": "message", "role": "user", "content": "?"},
        [
            sent.EasyInputMessageParam,
            response_input_item_param.Message,
            sent.ResponseOutputMessageParam,
        ],
        items.Message,
    ),
    "input[0] ": (
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        [sent.ResponseFunctionToolCallParam],
        items.FunctionCall,
    ),
    "input[0]  ": (
        {"type": "function_call_output", "call_id": "c", "output": "?"},
        [response_input_item_param.FunctionCallOutput],
        items.FunctionCallOutput,
    ),
    "input[0].content[0]": (
        {"type": "input_text", "text": "?"},
        [sent.ResponseInputTextParam],
        items.InputText,
    ),
    "input[0].content[0] ": (
        {"type": "output_text", "text": "?", "annotations": []},
        [sent.ResponseOutputTextParam],
        items.OutputText,
    ),
    "input[0].content[0]  ": (
        {"type": "refusal", "refusal": "?"},
        [sent.ResponseOutputRefusalParam],
        items.RefusalText,
    ),
    "input[0]   ": (
        {"type": "reasoning", "id": "rs", "summary": []},
        [sent.ResponseReasoningItemParam],
        items.ReasoningItem,
    ),
}
"""Where else fields are: something valid there, the package's types, and ours."""


def _within(place: str, value: Any) -> dict[str, Any]:
    """A body with this value at this place."""
    match place:
        case "tools[0]":
            return {"tools": [value]}
        case "text.format":
            return {"text": {"format": value}}
        case "input[0].content[0]":
            return {"input": [{"role": "assistant", "content": [value]}]}
        case "input[0]":
            return {"input": [value]}
    return {place: value}


def test_no_field_is_ours_alone() -> None:
    assert _taken(body.ResponseRequest) <= _names(CREATE)
    assert _taken(body.InputRequest) <= _names([InputTokenCountParams])
    for place, (_, theirs, ours) in INSIDE.items():
        more = {"id"} if ours in (items.Message,) else set()
        assert _taken(ours) - more <= _names(theirs), place


@pytest.mark.parametrize("name", sorted(_names(CREATE) - _taken(body.ResponseRequest)))
async def test_what_is_not_taken_is_refused(client: TestClient, name: str) -> None:
    asked = {"model": "tiny", "input": "?", name: "x"}
    async with client.post("/v1/responses", json=asked) as got:
        told = (await got.json())["error"]
    assert (got.status, told["param"], told["code"]) == (400, name, "unsupported_parameter")
    assert repr(name) in told["message"]


@pytest.mark.parametrize(
    "name", sorted(_names([InputTokenCountParams]) - _taken(body.InputRequest))
)
async def test_what_is_not_counted_is_refused(client: TestClient, name: str) -> None:
    asked = {"model": "tiny", "input": "?", name: "x"}
    async with client.post("/v1/responses/input_tokens", json=asked) as got:
        told = (await got.json())["error"]
    assert (got.status, told["param"], told["code"]) == (400, name, "unsupported_parameter")


UNSUPPORTED = [
    pytest.param(place, name, id=f"{place}.{name}")
    for place, (_, theirs, ours) in INSIDE.items()
    for name in sorted(_names(theirs) - _taken(ours) - {"type"})
]


@pytest.mark.parametrize(("place", "name"), UNSUPPORTED)
async def test_what_is_not_taken_inside_is_refused(
    client: TestClient, place: str, name: str
) -> None:
    valid, _, _ = INSIDE[place]
    asked = {"model": "tiny", "input": "?", **_within(place.strip(), {**valid, name: "x"})}
    async with client.post("/v1/responses", json=asked) as got:
        told = (await got.json())["error"]
    assert (got.status, told["code"]) == (400, "unsupported_parameter")
    assert told["param"] == f"{place.strip()}.{name}"


OPTIONAL = sorted(
    name
    for name, kind in get_type_hints(CREATE[0]).items()
    if type(None) in get_args(kind) and name != "input"
)


async def test_null_is_as_if_left_out(client: TestClient, scripted: Any) -> None:
    from swarm.gateway.events import Ended, Ending

    scripted.events = [Ended(0, Ending.END)]
    asked = {"model": "tiny", "input": "?", **dict.fromkeys(OPTIONAL)}
    async with client.post("/v1/responses", json=asked) as got:
        assert got.status == 200, await got.text()
    async with client.post("/v1/responses", json={"model": "tiny", "input": "?"}):
        pass
    assert scripted.asks[0] == scripted.asks[1]


def _members(kind: Any) -> list[Any]:
    return list(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else [kind]


def _tags(kinds: Iterable[Any]) -> set[str]:
    """The types by which the members of a union are told apart."""
    found: set[str] = set()
    for kind in kinds:
        found |= {tag for tag in _literals(get_type_hints(kind)["type"]) if tag}
    return found


def _literals(kind: Any) -> set[Any]:
    if get_origin(kind) is Literal:
        return set(get_args(kind))
    return {tag for each in get_args(kind) for tag in _literals(each)}


ITEMS = _tags(_members(response_input_item_param.ResponseInputItemParam))
TOOLS = _tags(_members(tool_param.ToolParam))
CHOICES = _tags(
    kind
    for kind in _members(response_create_params.ToolChoice)
    if isinstance(kind, type) and get_origin(kind) is not Literal
)


def test_the_package_is_read_rightly() -> None:
    assert {"message", "mcp_call", "item_reference", "custom_tool_call"} <= ITEMS
    assert {"function", "web_search", "mcp", "custom", "local_shell"} <= TOOLS
    assert {"function", "allowed_tools", "mcp", "file_search", "custom"} <= CHOICES


@pytest.mark.parametrize("kind", sorted(ITEMS - set(items.KINDS)))
async def test_other_items_are_refused(client: TestClient, kind: str) -> None:
    await _is_refused(client, "input[0].type", kind, {"input": [{"type": kind, "id": "x"}]})


@pytest.mark.parametrize("kind", sorted(TOOLS - {"function"}))
async def test_hosted_tools_are_refused(client: TestClient, kind: str) -> None:
    await _is_refused(client, "tools[0].type", kind, {"tools": [{"type": kind}]})


@pytest.mark.parametrize("kind", sorted(CHOICES - {"function", "allowed_tools"}))
async def test_other_choices_are_refused(client: TestClient, kind: str) -> None:
    await _is_refused(client, "tool_choice.type", kind, {"tool_choice": {"type": kind}})


@pytest.mark.parametrize("kind", ["input_image", "input_file", "input_audio"])
async def test_other_parts_are_refused(client: TestClient, kind: str) -> None:
    content = [{"type": "input_text", "text": "?"}, {"type": kind, "file_id": "x"}]
    asked: dict[str, Any] = {"input": [{"role": "user", "content": content}]}
    await _is_refused(client, "input[0].content[1].type", kind, asked)
    outcome = {"type": "function_call_output", "call_id": "c", "output": content}
    await _is_refused(client, "input[0].output[1].type", kind, {"input": [outcome]})


@pytest.mark.parametrize(
    "value", sorted(set(get_args(sent.ResponseIncludable)) - {"message.output_text.logprobs"})
)
async def test_nothing_else_is_included(client: TestClient, value: str) -> None:
    asked = {"include": ["message.output_text.logprobs", value]}
    await _is_refused(client, "include[1]", value, asked)


@pytest.mark.parametrize(
    ("param", "value", "asked"),
    [
        ("background", True, {"background": True}),
        *(
            ("reasoning.effort", effort, {"reasoning": {"effort": effort}})
            for effort in ("minimal", "low", "medium", "high", "xhigh", "max")
        ),
        *(
            ("text.verbosity", verbosity, {"text": {"verbosity": verbosity}})
            for verbosity in ("low", "high")
        ),
        *(
            ("service_tier", tier, {"service_tier": tier})
            for tier in ("flex", "scale", "priority", "fast", "ultrafast")
        ),
    ],
)
async def test_other_values_are_refused(
    client: TestClient, param: str, value: Any, asked: dict[str, Any]
) -> None:
    await _is_refused(client, param, value, asked)


@pytest.mark.parametrize(
    ("param", "asked"),
    [
        ("temperature", {"temperature": 2.1}),
        ("temperature", {"temperature": -0.1}),
        ("top_p", {"top_p": 1.1}),
        ("top_logprobs", {"top_logprobs": 21}),
        ("max_output_tokens", {"max_output_tokens": 0}),
        ("max_output_tokens", {"max_output_tokens": "9"}),
        ("metadata", {"metadata": {"a" * 65: "b"}}),
        ("metadata[...]", {"metadata": {"a": "b" * 513}}),
        ("metadata", {"metadata": {str(n): "" for n in range(17)}}),
        ("stream_options", {"stream_options": {"include_obfuscation": True}}),
        ("tools[0].name", {"tools": [{"type": "function", "name": "a b"}]}),
        ("tools[0].name", {"tools": [{"type": "function", "name": "a\n"}]}),
        ("tool_choice", {"tool_choice": "sometimes"}),
        ("truncation", {"truncation": "middle"}),
        ("input[0].role", {"input": [{"role": "tool", "content": "?"}]}),
        ("input[0].content", {"input": [{"role": "user", "content": 3}]}),
        ("input[0].content", {"input": [{"role": "user"}]}),
        ("input[0]", {"input": ["?"]}),
        ("input", {"input": [{"role": "user", "content": ""}] * 8193}),
        ("model", {"model": None}),
    ],
)
async def test_mistakes_are_named(client: TestClient, param: str, asked: dict[str, Any]) -> None:
    async with client.post("/v1/responses", json={"model": "tiny", "input": "?", **asked}) as got:
        told = (await got.json())["error"]
    assert (got.status, told["param"]) == (400, param)


async def _is_refused(client: TestClient, param: str, value: Any, asked: dict[str, Any]) -> None:
    async with client.post("/v1/responses", json={"model": "tiny", "input": "?", **asked}) as got:
        told = (await got.json())["error"]
    assert (got.status, told["param"]) == (400, param)
    assert told["code"] == "unsupported_parameter"
    assert repr(value) in told["message"]
