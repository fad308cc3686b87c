"""Bodies of requests to a gateway: of every endpoint that takes one, up to what is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import strategies as st

from swarm.client import SamplingConfig
from swarm.errors import SwarmError
from swarm.gateway.answer import Answer, Caller, ModelCard
from swarm.gateway.ask import Ask, Prompt, Talk, Text, Tokens, ToolUse
from swarm.gateway.body import parse
from swarm.gateway.endpoint import Call, Endpoint
from swarm.gateway.endpoints import all_endpoints
from swarm.gateway.refusals import Reason, Refusal, translate

from .bounds import Bounds, bounded
from .fuzzer import Fuzzer
from .hostile import DEEP_JSON, altered, mutated

_BOUNDS = Bounds(memory=1 << 20, memory_per_byte=600, lines=6_000, lines_per_byte=60)
"""Two bytes of JSON become an object of Python's, and one of ours."""

_THEIRS = {
    Reason.INVALID,
    Reason.UNSUPPORTED,
    Reason.UNKNOWN_MODEL,
    Reason.NOT_FOUND,
    Reason.TOO_LONG,
}
"""What a body may be refused for."""

_LONGEST = 8_000
"""Characters of a refusal, as it is sent."""

_CONTEXT = 64
"""Tokens, so that inputs are truncated where that is asked for."""

_TURNS = ("messages", "input", "prompt")
"""What a body calls its conversation."""

_ENDPOINTS = {each.path: each for each in all_endpoints() if each.body is not None}

_SCHEMA = {
    "type": "object",
    "properties": {"at": {"type": "string"}, "n": {"type": "array", "items": {"enum": [1, "a"]}}},
    "required": ["at"],
    "additionalProperties": False,
}
_FUNCTION = {"name": "look", "description": "Looks.", "parameters": _SCHEMA, "strict": True}
_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"x"}'}}
_CHAT = {
    "model": "tiny",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What"}], "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "blue"},
        {"role": "user", "content": "So?"},
    ],
    "tools": [{"type": "function", "function": _FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "parallel_tool_calls": False,
    "temperature": 0.5,
    "top_p": 0.5,
    "n": 2,
    "seed": 7,
    "stop": ["\n"],
    "max_completion_tokens": 5,
    "logprobs": True,
    "top_logprobs": 3,
    "logit_bias": {"7": -1.5},
    "metadata": {"a": "b"},
    "stream": True,
    "stream_options": {"include_usage": True},
}
_FORMATTED = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "?"}],
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": _SCHEMA, "strict": True},
    },
}
_ITEMS = [
    {"role": "developer", "content": "Be brief."},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What?"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
    {"role": "assistant", "content": [{"type": "output_text", "text": "!", "annotations": []}]},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at":"x"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "blue"},
    {"role": "user", "content": "So?"},
]
_COUNTED = {
    "model": "tiny",
    "input": _ITEMS,
    "instructions": "Be kind.",
    "tools": [{"type": "function", **_FUNCTION}],
    "tool_choice": {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "look"}],
    },
    "text": {"format": {"type": "json_schema", "name": "a", "schema": _SCHEMA}},
    "truncation": "auto",
}
_RESPONSE = {**_COUNTED, "include": ["message.output_text.logprobs"], "max_output_tokens": 5}
_MESSAGES = {
    "model": "tiny",
    "max_tokens": 5,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": "What?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "x"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]},
    ],
    "tools": [{"name": "look", "input_schema": _SCHEMA}],
    "tool_choice": {"type": "tool", "name": "look"},
    "stop_sequences": ["\n\nHuman:"],
    "stream": True,
}
_SAMPLES: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [_CHAT, _FORMATTED],
    "/v1/completions": [
        {"model": "tiny", "prompt": ["a", "b"], "n": 2, "best_of": 3, "max_tokens": 5},
        {"model": "tiny", "prompt": [1, 2, 3], "echo": True, "logprobs": 2, "max_tokens": 0},
    ],
    "/v1/responses": [_RESPONSE, {"model": "tiny", "input": "?", "stream": True}],
    "/v1/responses/input_tokens": [_COUNTED],
    "/v1/messages": [_MESSAGES],
    "/v1/messages/count_tokens": [
        {key: _MESSAGES[key] for key in ("model", "messages", "system", "tools", "tool_choice")}
    ],
}


def _json(value: Any) -> bytes:
    return json.dumps(value, default=repr).encode()


def _bodies(samples: list[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    changed = st.sampled_from(samples).flatmap(altered).map(_json)
    mixed = _reordered(samples).map(_json)
    many = st.builds(_swollen, st.sampled_from(samples), st.integers(0, 7), st.integers(2, 300))
    cut = mutated([_json(sample) for sample in samples])
    return st.one_of(changed, changed, mixed, mixed, many, cut, DEEP_JSON)


@st.composite
def _reordered(draw: st.DrawFn, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Messages or items that are valid each, in an order that need not be."""
    lists = [(s, name) for s in samples for name in _TURNS if isinstance(s.get(name), list)]
    sample, name = draw(st.sampled_from(lists))
    return {**sample, name: draw(st.lists(st.sampled_from(sample[name]), max_size=12))}


def _swollen(sample: dict[str, Any], which: int, times: int) -> bytes:
    """One of a body's lists, many times as long."""
    lists = [name for name, value in sample.items() if isinstance(value, list)]
    if not lists:
        return _json(sample)
    name = lists[which % len(lists)]
    return _json({**sample, name: sample[name] * times})


@dataclass
class _Recorder:
    """Takes down what is asked, and answers nothing."""

    asked: list[Ask] = field(default_factory=list)
    counted: int = 0

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        self.asked.append(ask)
        raise Refusal(Reason.BUSY, "taken down")
        yield

    async def models(self) -> tuple[ModelCard, ...]:
        return (ModelCard("tiny", 0, _CONTEXT, has_route=True),)

    async def count(self, model: str, prompt: Prompt) -> int:
        _check_prompt(prompt)
        self.counted += 1
        return sum(len(each["content"]) for each in prompt.messages if isinstance(prompt, Talk))


class _Here(ThreadPoolExecutor):
    """Does at once what threads were to do, so that it is counted."""

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(task(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


def check(case: tuple[str, bytes]) -> None:
    """What is asked is sound, or the refusal says what is wrong with the body."""
    path, raw = case
    _ask(path, raw)


def _ask(path: str, raw: bytes) -> _Recorder | Refusal:
    recorder, endpoint = _Recorder(), _ENDPOINTS[path]
    request = make_mocked_request("POST", path)
    try:
        with asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(_Here(1))
            with bounded(len(raw), _BOUNDS):
                runner.run(_handle(endpoint, request, recorder, raw))
    except SwarmError as error:
        refusal = translate(error)
        if refusal.reason is not Reason.BUSY:
            assert refusal.reason in _THEIRS, refusal
            told = json.dumps(endpoint.dialect.refuse(refusal))
            assert len(told) < _LONGEST, "a refusal is no longer than a page"
            return refusal
    assert recorder.asked or recorder.counted, "the body was taken, and nothing asked"
    for ask in recorder.asked:
        _check_ask(ask)
    return recorder


async def _handle(
    endpoint: Endpoint, request: web.Request, recorder: _Recorder, raw: bytes
) -> None:
    assert endpoint.body is not None
    body = parse(raw, endpoint.body)
    await endpoint.handler(Call(request, body, Caller("local"), recorder))


def _check_ask(ask: Ask) -> None:
    assert isinstance(ask.model, str)
    assert isinstance(ask.sampling, SamplingConfig)
    assert ask.num_choices >= 1
    assert ask.best_of is None or ask.best_of >= ask.num_choices
    _check_prompt(ask.prompt)


def _check_prompt(prompt: Prompt) -> None:
    match prompt:
        case Text(text):
            text.encode()
        case Tokens(ids):
            assert all(isinstance(each, int) and 0 <= each < 1 << 31 for each in ids)
        case Talk(messages, tools, choice):
            assert messages
            unanswered: set[str] = set()
            for message in messages:
                unanswered = _check_message(message, unanswered)
            names = [tool.name for tool in tools]
            assert len(set(names)) == len(names)
            assert choice.name is None or choice.name in names
            assert choice.use is not ToolUse.REQUIRED or names
            msgspec.json.encode([dict(tool.parameters) for tool in tools])


def _check_message(message: Mapping[str, Any], unanswered: set[str]) -> set[str]:
    """The calls that wait for an answer behind this message."""
    assert message["role"] in ("system", "user", "assistant", "tool")
    message["content"].encode()
    assert message["role"] == "assistant" or "tool_calls" not in message
    if message["role"] == "tool":
        assert message["tool_call_id"] in unanswered
        unanswered = unanswered - {message["tool_call_id"]}
    calls = message.get("tool_calls", [])
    for call in calls:
        assert isinstance(call["function"]["arguments"], dict)
        assert isinstance(call["function"]["name"], str)
    return unanswered | {call["id"] for call in calls}


def _warm() -> None:
    """Samples are taken; what is only computed once is no input's doing."""
    assert set(_SAMPLES) == set(_ENDPOINTS), "each endpoint has a sample"
    for path, samples in _SAMPLES.items():
        for sample in samples:
            _handle_warm(path, sample)


def _handle_warm(path: str, sample: dict[str, Any]) -> None:
    found = _ask(path, _json(sample))
    assert isinstance(found, _Recorder), (path, found)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[str, bytes]:
    path = draw(st.sampled_from(sorted(_ENDPOINTS)))
    return path, draw(_bodies(_SAMPLES[path]))


_warm()
FUZZER = Fuzzer(_cases(), check)
