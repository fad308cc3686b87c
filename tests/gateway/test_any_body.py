"""Whatever a body holds, it is an ask or a refusal."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import SwarmError
from swarm.gateway.ask import Ask
from swarm.gateway.body import parse
from swarm.gateway.openai import chat, completions
from swarm.gateway.openai.chat import ChatRequest
from swarm.gateway.openai.completions import CompletionRequest

WORDS = st.sampled_from(
    ["user", "assistant", "tool", "text", "function", "json_schema", "add", "c1", "auto", "{}", ""]
)
NAMES = st.sampled_from(
    [
        *(
            "role",
            "content",
            "type",
            "text",
            "tool_calls",
            "tool_call_id",
            "id",
            "function",
            "name",
        ),
        *(
            "arguments",
            "parameters",
            "json_schema",
            "schema",
            "allowed_tools",
            "mode",
            "tools",
            "5",
        ),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
MESSAGES = st.lists(
    st.sampled_from(
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "b"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        ]
    ),
    max_size=5,
)


def bodies(kind: type[msgspec.Struct], given: dict[str, Any]) -> Any:
    """A body with a few fields of any value."""
    fields = st.sampled_from(kind.__struct_fields__)
    return st.dictionaries(fields, VALUES, max_size=3).map(lambda some: {**given, **some})


@settings(max_examples=300)
@given(bodies(ChatRequest, {"model": "m"}), MESSAGES)
def test_a_chat(body: dict[str, Any], messages: list[Any]) -> None:
    raw = msgspec.json.encode({"messages": messages, **body})
    try:
        ask = chat.asked(parse(raw, ChatRequest))
    except SwarmError:
        return
    assert isinstance(ask, Ask)
    roles = [message["role"] for message in ask.prompt.messages]
    assert set(roles) <= {"system", "user", "assistant", "tool"}


@settings(max_examples=300)
@given(bodies(CompletionRequest, {"model": "m", "prompt": "a"}))
def test_a_completion(body: dict[str, Any]) -> None:
    try:
        asks = completions.asked(parse(msgspec.json.encode(body), CompletionRequest))
    except SwarmError:
        return
    assert asks
    assert all(ask.prompt for ask in asks)


@given(st.binary() | st.text().map(str.encode))
def test_bytes(raw: bytes) -> None:
    for kind in (ChatRequest, CompletionRequest):
        try:
            parse(raw, kind)
        except SwarmError:
            continue
        raise AssertionError("a model is always needed")
