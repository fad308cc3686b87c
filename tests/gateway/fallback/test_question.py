from __future__ import annotations

import json
from dataclasses import fields, make_dataclass, replace
from typing import Any

import pytest

from swarm.client import Grammar, SamplingConfig
from swarm.gateway.ask import Ask, Talk, Text, Tokens, Tool, ToolChoice, ToolUse
from swarm.gateway.fallback.question import question
from swarm.gateway.refusals import Reason, Refusal

HELLO = ({"role": "user", "content": "hello"},)
SAMPLING = SamplingConfig(max_new_tokens=9, temperature=0.5)
COMMON = {
    "model": "theirs",
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "max_tokens": 9,
}


def ask(prompt: Any = None, **changes: Any) -> Ask:
    sampling = replace(SAMPLING, **changes.pop("sampling", {}))
    return Ask("ours", prompt or Talk(HELLO), sampling, **changes)


def test_a_plain_question() -> None:
    asked = question(ask(), "theirs")
    assert asked.path == "chat/completions"
    assert asked.body == {**COMMON, "messages": list(HELLO)}


def test_everything_that_can_be_said_is() -> None:
    said = {"top_p": 0.9, "presence_penalty": 1.0, "frequency_penalty": -1.0, "seed": 7}
    asked = question(
        ask(sampling={**said, "stop": ("a", "b"), "logprobs": 3}, num_choices=2, bounded=False),
        "theirs",
    )
    common = {key: value for key, value in COMMON.items() if key != "max_tokens"}
    assert asked.body == {
        **common,
        **said,
        "stop": ["a", "b"],
        "logprobs": True,
        "top_logprobs": 3,
        "n": 2,
        "messages": list(HELLO),
    }


def test_a_plain_prompt() -> None:
    asked = question(ask(Text("Once"), echo=True, sampling={"logprobs": 2}), "theirs")
    assert asked.path == "completions"
    assert asked.body == {**COMMON, "prompt": "Once", "echo": True, "logprobs": 2}
    asked = question(ask(Text("Once"), echo=True, silent=True), "theirs")
    assert asked.body == {**COMMON, "prompt": "Once", "echo": True, "max_tokens": 0}


def test_tools_and_what_came_of_them() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = (
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
    )
    tools = (Tool("add", "adds", {"type": "object"}, strict=True), Tool("sub"))
    choice = ToolChoice(ToolUse.REQUIRED, parallel=False)
    body = question(ask(Talk(messages, tools, choice)), "theirs").body
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    assert call["function"]["arguments"] == {"a": 1}, "what is asked is not changed"
    assert body["messages"][2] == messages[2]
    assert body["tools"][0]["function"] == {
        "name": "add",
        "description": "adds",
        "parameters": {"type": "object"},
        "strict": True,
    }
    assert body["tool_choice"] == "required" and body["parallel_tool_calls"] is False
    named = ToolChoice(ToolUse.REQUIRED, name="add")
    body = question(ask(Talk(HELLO, tools, named)), "theirs").body
    assert body["tool_choice"] == {"type": "function", "function": {"name": "add"}}


def test_forms_of_answers() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    body = question(ask(sampling={"grammar": Grammar.json_object()}), "theirs").body
    assert body["response_format"] == {"type": "json_object"}
    body = question(ask(sampling={"grammar": Grammar.json_schema(schema)}), "theirs").body
    told = body["response_format"]["json_schema"]
    assert told["strict"] and told["schema"]["properties"] == schema["properties"]
    assert "x-guidance" not in json.dumps(body)


@pytest.mark.parametrize(
    "asked",
    [
        ask(Tokens((1, 2))),
        ask(best_of=3),
        ask(echo=True),
        ask(Talk((*HELLO, {"role": "assistant", "content": "I"}))),
        ask(Talk(({"role": "user", "content": [{"type": "text"}]},))),
        ask(Talk(({"role": "user", "content": "hello", "thinking": "…"},))),
        ask(sampling={"top_k": 5}),
        ask(sampling={"min_p": 0.1}),
        ask(sampling={"repetition_penalty": 1.2}),
        ask(sampling={"logit_bias": ((1, 5.0),)}),
        ask(sampling={"ignore_eos": True}),
        ask(sampling={"grammar": Grammar.regex("a+")}),
        ask(Text("Once"), sampling={"grammar": Grammar.json_object()}),
    ],
    ids=lambda asked: str(asked)[:60],
)
def test_what_cannot_be_said_is_refused(asked: Ask) -> None:
    with pytest.raises(Refusal) as refused:
        question(asked, "theirs")
    assert refused.value.reason is Reason.NO_ROUTE and refused.value.retry_after


@pytest.mark.parametrize("kind", [Ask, Talk, Tool, ToolChoice, SamplingConfig])
def test_a_field_that_is_new_is_refused_where_it_asks_something(kind: type) -> None:
    """Nothing is left out because nobody has thought of it."""
    later = make_dataclass("Later", [("novelty", bool, False)], bases=(kind,), frozen=True)

    def whole(novelty: bool) -> Ask:
        def made(value: Any) -> Any:
            if type(value) is not kind:
                return value
            given = {field.name: getattr(value, field.name) for field in fields(value)}
            return later(**given, novelty=novelty)

        tools, choice = (made(Tool("add")),), made(ToolChoice())
        talk = made(Talk(HELLO, tools, choice))
        return made(Ask("ours", talk, made(SAMPLING)))

    assert question(whole(novelty=False), "theirs") == question(
        ask(Talk(HELLO, (Tool("add"),))), "theirs"
    )
    with pytest.raises(Refusal, match="novelty"):
        question(whole(novelty=True), "theirs")
