"""Whatever is said: the events of a stream add up to the response that is told as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.client import ChosenToken
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Event, Said, Usage
from swarm.gateway.openai.responses.answer import Response
from swarm.gateway.openai.responses.body import ResponseRequest
from swarm.gateway.openai.responses.items import Items
from swarm.gateway.openai.responses.request import begun
from swarm.gateway.openai.responses.writer import FAILURES, Writer
from swarm.gateway.refusals import Reason, Refusal

USAGE = Usage(5, 1, 2)


def _token(text: str) -> ChosenToken:
    return ChosenToken(1, text.encode(), -1.0, ((1, text.encode(), -1.0),))


WORDS = st.text("abü \n", max_size=3).map(lambda text: Said(0, text, (_token(text),)))


@st.composite
def scripts(draw: st.DrawFn) -> list[Event]:
    """Words and calls in any order, and perhaps an end; parts of calls of one batch may mingle."""
    events: list[Event] = []
    num_calls = 0
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            events += draw(st.lists(WORDS, max_size=3))
            continue
        batch = range(num_calls, num_calls + draw(st.integers(1, 3)))
        num_calls = batch.stop
        for index in batch:
            events.append(CallBegun(0, index, f"call_{index}", draw(st.sampled_from("fg"))))
            begun = st.integers(batch.start, index)
            parts = st.builds(CallPart, st.just(0), begun, st.text('{"}', max_size=3))
            events += draw(st.lists(parts, max_size=3))
    return [*events, Ended(0, draw(st.sampled_from(Ending)))]


def _writer(*, scored: bool) -> Writer:
    body = ResponseRequest(model="tiny", input="?")
    return Writer(begun(body, {}, Items(())), scored=scored, obfuscating=True)


def _streamed(events: Sequence[Event], *, scored: bool) -> tuple[list[dict[str, Any]], Response]:
    writer = _writer(scored=scored)
    told = writer.begin()
    for event in events:
        told += writer.push(event)
    told.append(writer.end(USAGE))
    return [msgspec.to_builtins(each) for each in told], writer.response


class _Reader:
    """Puts a response together from deltas alone, and holds the rest of the stream against it."""

    def __init__(self) -> None:
        self.items: dict[int, dict[str, Any]] = {}
        self.done: dict[int, dict[str, Any]] = {}

    def read(self, event: dict[str, Any]) -> None:
        index = event.get("output_index", -1)
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert index == len(self.items), "items begin in their order"
            assert event["item"]["status"] == "in_progress"
            self.items[index] = event["item"]
            return
        if index < 0:
            return
        assert index not in self.done, "nothing comes after an item is done"
        item = self.items[index]
        if "item_id" in event:
            assert event["item_id"] == item["id"]
        match kind:
            case "content_part.added":
                assert item["content"] == []
                item["content"].append(event["part"])
            case "output_text.delta":
                item["content"][0]["text"] += event["delta"]
                item["content"][0]["logprobs"] += event["logprobs"]
            case "output_text.done":
                assert event["text"] == item["content"][0]["text"]
                assert event["logprobs"] == item["content"][0]["logprobs"]
            case "content_part.done":
                assert event["part"] == item["content"][0]
            case "function_call_arguments.delta":
                item["arguments"] += event["delta"]
            case "function_call_arguments.done":
                assert event["arguments"] == item["arguments"]
            case "output_item.done":
                assert {**item, "status": None} == {**event["item"], "status": None}
                self.done[index] = event["item"]
            case _:
                raise AssertionError(kind)


@given(scripts(), st.booleans())
def test_the_stream_adds_up_to_the_whole(events: list[Event], scored: bool) -> None:
    told, response = _streamed(events, scored=scored)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["type"] for event in told[:2]] == ["response.created", "response.in_progress"]
    reader = _Reader()
    for event in told:
        reader.read(event)
    whole = told[-1]["response"]
    assert whole == msgspec.to_builtins(response)
    assert [reader.done[index] for index in range(len(reader.items))] == whole["output"]


@given(scripts())
def test_nothing_is_lost_and_nothing_added(events: list[Event]) -> None:
    _, response = _streamed(events, scored=True)
    whole = msgspec.to_builtins(response)
    text = "".join(event.text for event in events if isinstance(event, Said))
    messages = [item["content"][0] for item in whole["output"] if item["type"] == "message"]
    assert "".join(part["text"] for part in messages) == text
    assert "".join(each["token"] for part in messages for each in part["logprobs"]) == text
    calls = [item for item in whole["output"] if item["type"] == "function_call"]
    for index, call in enumerate(calls):
        parts = [each for each in events if isinstance(each, CallPart) and each.index == index]
        assert call["call_id"] == f"call_{index}"
        assert call["arguments"] == "".join(part.arguments for part in parts)
    assert sum(isinstance(event, CallBegun) for event in events) == len(calls)


@given(scripts())
def test_only_what_was_cut_is_incomplete(events: list[Event]) -> None:
    _, response = _streamed(events, scored=False)
    ended = events[-1]
    assert isinstance(ended, Ended)
    is_cut = ended.ending is Ending.LENGTH
    assert response.status == ("incomplete" if is_cut else "completed")
    assert (response.incomplete_details is not None) == is_cut
    statuses = [item.status for item in response.output]
    assert all(status == "completed" for status in statuses[:-1])
    assert (statuses[-1] == "incomplete") == is_cut


@given(scripts(), st.data())
def test_what_broke_off_tells_what_there_was(events: list[Event], data: st.DataObject) -> None:
    writer = _writer(scored=False)
    told = writer.begin()
    for event in events[: data.draw(st.integers(0, len(events) - 1))]:
        told += writer.push(event)
    told.append(writer.fail(Refusal(Reason.NO_ROUTE, "gone"), USAGE))
    reader = _Reader()
    for each in told:
        reader.read(msgspec.to_builtins(each))
    output = msgspec.to_builtins(writer.response)["output"]
    assert [{**item, "status": None} for item in output] == [
        {**item, "status": None} for item in reader.items.values()
    ]
    for index, item in enumerate(output):
        assert item["status"] == ("completed" if index in reader.done else "incomplete")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_code(reason: Reason) -> None:
    writer = _writer(scored=False)
    writer.fail(Refusal(reason, "no"), USAGE)
    assert writer.response.error is not None
    assert writer.response.error.code == FAILURES.get(reason, "server_error")
