"""Streams and whole answers are the same answer, whatever the swarm says and wherever it is cut."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import TypeAdapter

from swarm.gateway.anthropic.answer import Message, MessageStart, Usage
from swarm.gateway.anthropic.writing import Gathering, Writing, whole_input
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Event, Said

EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)

values = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**53), 2**53) | some.text(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=8,
)
inputs = some.dictionaries(some.text(), values, max_size=3)


@some.composite
def texts(draw: some.DrawFn, whole: str) -> list[str]:
    """A text in pieces, as tokens cut it."""
    cuts = sorted(draw(some.lists(some.integers(0, len(whole)), max_size=4)))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@some.composite
def scripts(draw: some.DrawFn) -> list[Event]:
    """What may become of an ask."""
    events: list[Event] = []
    num_calls = 0
    for part in draw(some.lists(some.text() | inputs, max_size=5)):
        if isinstance(part, str):
            events += [Said(0, piece) for piece in draw(texts(part))]
            continue
        events.append(CallBegun(0, num_calls, f"call_{num_calls}", "tool"))
        pieces = draw(texts(json.dumps(part)))
        events += [CallPart(0, num_calls, piece) for piece in pieces]
        num_calls += 1
    stop = draw(some.none() | some.text(min_size=1))
    ending = Ending.STOP if stop else draw(some.sampled_from([Ending.END, Ending.CALLS]))
    return [*events, Ended(0, ending, stop)]


def _sent(script: list[Event]) -> list[Any]:
    writing = Writing()
    events = [sent for event in script for sent in writing.push(event)]
    return [MessageStart(_message()), *events, *writing.end(Usage(5, 3, 2))]


def _message() -> Message:
    return Message(id="msg_1", model="tiny", content=[], usage=Usage(5, 0, 2))


def _whole(events: list[Any]) -> dict[str, Any]:
    gathering = Gathering(_message())
    for event in events:
        gathering.push(event)
    whole: dict[str, Any] = msgspec.to_builtins(gathering.message)
    return whole


def _accumulated(events: list[Any]) -> dict[str, Any]:
    """By the package that clients use."""
    message: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        read = EVENTS.validate_json(msgspec.json.encode(event))
        message = accumulate_event(event=read, current_snapshot=message, json_bufs=buffers)
    told: dict[str, Any] = message.to_dict(exclude_unset=False)
    return told


@settings(max_examples=50)
@given(scripts())
def test_a_stream_adds_up_to_the_whole_answer(script: list[Event]) -> None:
    events = _sent(script)
    whole, accumulated = _whole(events), _accumulated(events)
    for field in ("id", "model", "role", "stop_reason", "stop_sequence"):
        assert accumulated[field] == whole[field]
    for field, number in whole["usage"].items():
        assert accumulated["usage"][field] == number
    assert len(accumulated["content"]) == len(whole["content"])
    for told, block in zip(accumulated["content"], whole["content"], strict=True):
        assert {field: told[field] for field in block} == block


@settings(max_examples=50)
@given(scripts())
def test_nothing_that_was_said_is_lost(script: list[Event]) -> None:
    whole = _whole(_sent(script))
    said = "".join(event.text for event in script if isinstance(event, Said))
    assert "".join(block.get("text", "") for block in whole["content"]) == said
    arguments: dict[int, str] = {}
    for event in script:
        if isinstance(event, CallPart):
            arguments[event.index] = arguments.get(event.index, "") + event.arguments
    inputs = [block["input"] for block in whole["content"] if block["type"] == "tool_use"]
    assert inputs == [json.loads(arguments[index]) for index in sorted(arguments)]


@settings(max_examples=50)
@given(scripts())
def test_blocks_open_and_close_one_after_the_other(script: list[Event]) -> None:
    open_block, next_block = None, 0
    for event in _sent(script):
        match event.name:
            case "content_block_start":
                assert open_block is None
                assert event.index == next_block
                open_block, next_block = event.index, next_block + 1
            case "content_block_delta":
                assert event.index == open_block
            case "content_block_stop":
                assert event.index == open_block
                open_block = None
    assert open_block is None


@given(inputs, some.data())
def test_of_an_input_that_was_cut_off_the_whole_values_are_left(
    value: dict[str, Any], data: some.DataObject
) -> None:
    text = json.dumps(value)
    assert whole_input(text) == value
    cut = whole_input(text[: data.draw(some.integers(0, len(text) - 1))])
    assert list(cut) == list(value)[: len(cut)]
    for field in list(cut)[:-1]:
        assert cut[field] == value[field]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", {}),
        ('{"a"', {}),
        ('{"a": 1', {}),
        ('{"a": 1,', {"a": 1}),
        ('{"a": "x, }', {}),
        ('{"a": "x\\", ", "b": [1, 2', {"a": 'x", ', "b": [1]}),
        ('{"a": {"b": 2}', {"a": {"b": 2}}),
        ("[1, 2]", {}),
        ("}{", {}),
        ("[" * 5000, {}),
        ('{"a": ' + "[" * 5000, {}),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", {}),
    ],
)
def test_inputs_that_break_off(text: str, left: dict[str, Any]) -> None:
    assert whole_input(text) == left


@given(some.text(alphabet='{}[]",:\\ae1 '))
def test_what_is_no_json_is_no_input(text: str) -> None:
    assert isinstance(whole_input(text), dict)
