"""Items as messages of a template, and which of them go along where there is no room for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.gateway.openai.responses.conversation import template_messages
from swarm.gateway.openai.responses.items import (
    Item,
    Message,
    read_items,
)
from swarm.gateway.openai.responses.truncation import newest
from swarm.gateway.refusals import Refusal


def _items(*raw: dict[str, Any]) -> tuple[Item, ...]:
    return read_items(raw, lambda name: None).items


def _says(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def _call(name: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": name, "name": f"do_{name}", "arguments": "{}"}


def _output(name: str, output: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": name, "output": output}


def test_orders_at_the_beginning_are_one_message() -> None:
    items = _items(
        _says("developer", "b"), _says("system", "c"), _says("user", "?"), _says("developer", "d")
    )
    assert template_messages("a", items) == (
        {"role": "system", "content": "a\n\nb\n\nc"},
        {"role": "user", "content": "?"},
        {"role": "system", "content": "d"},
    )
    assert template_messages(None, items)[0]["content"] == "b\n\nc"


def test_parts_become_one_text() -> None:
    given = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    said = [
        {"type": "output_text", "text": "c", "annotations": []},
        {"type": "refusal", "refusal": "d"},
    ]
    items = _items(_says("user", given), _says("assistant", said), _call("x"), _output("x", given))
    messages = template_messages(None, items)
    assert [message["content"] for message in messages] == ["ab", "cd", "ab"]


def test_calls_belong_to_what_was_said_before_them() -> None:
    items = _items(
        _says("user", "?"),
        _says("assistant", "Let me see."),
        _call("a"),
        _call("b"),
        _output("b"),
        _output("a"),
        _call("c"),
        _output("c"),
    )
    messages = template_messages(None, items)
    assert [message["role"] for message in messages] == [
        *("user", "assistant", "tool", "tool"),
        *("assistant", "tool"),
    ]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["a", "b"]
    assert (messages[2]["tool_call_id"], messages[2]["name"]) == ("b", "do_b")
    assert messages[4]["content"] == ""


@pytest.mark.parametrize(
    "raw",
    [
        [_call("a")],
        [_output("a")],
        [_call("a"), _call("a"), _output("a")],
        [_call("a"), _output("a"), _output("a")],
        [_output("a"), _call("a")],
    ],
)
def test_calls_and_outputs_come_in_pairs(raw: list[dict[str, Any]]) -> None:
    with pytest.raises(Refusal):
        template_messages(None, _items(_says("user", "?"), *raw))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Item, ...]:
    raw = [_says("developer", "o")] * draw(st.integers(0, 2))
    for turn in range(draw(st.integers(1, 12))):
        raw += [_says("user", "?")] * draw(st.integers(1, 2))
        for step in range(draw(st.integers(0, 2))):
            name = f"{turn}.{step}"
            raw += [_says("assistant", "!"), _call(name), _output(name)]
        raw += [_says("assistant", "!")] * draw(st.integers(0, 1))
    return _items(*raw)


@given(conversations(), st.integers(0, 80))
async def test_the_newest_turns_stay(items: tuple[Item, ...], room: int) -> None:
    tried: list[int] = []

    async def fits(some: Sequence[Item]) -> bool:
        tried.append(len(some))
        return len(some) <= room

    kept = await newest(items, fits)
    template_messages("i", kept)
    num_orders = sum(isinstance(item, Message) and item.role == "developer" for item in items)
    assert kept[:num_orders] == items[:num_orders]
    newer = kept[num_orders:]
    assert newer == items[len(items) - len(newer) :]
    assert isinstance(newer[0], Message)
    assert newer[0].role == "user"
    users = [
        at
        for at in range(num_orders, len(items))
        if _is_user(items[at]) and (at == num_orders or not _is_user(items[at - 1]))
    ]
    start = len(items) - len(newer)
    if start > users[0]:
        before = max(at for at in users if at < start)
        assert num_orders + len(items) - before > room, "one turn more would have fitted"
    assert len(kept) <= room or start == users[-1]
    assert len(tried) <= 2 * len(users).bit_length()


def _is_user(item: Item) -> bool:
    return isinstance(item, Message) and item.role == "user"


async def test_an_endless_input_is_not_counted_whole() -> None:
    items = _items(*[_says("user", "?"), _says("assistant", "!")] * 10_000)
    counted = 0

    async def fits(some: Sequence[Item]) -> bool:
        nonlocal counted
        counted += len(some)
        return len(some) <= 100

    assert len(await newest(items, fits)) == 100
    assert counted < 2000


async def test_a_turn_does_not_begin_within_a_call() -> None:
    items = _items(_says("user", "a"), _call("x"), _says("user", "b"), _output("x"))

    async def never(some: Sequence[Item]) -> bool:
        return False

    assert await newest(items, never) == items
