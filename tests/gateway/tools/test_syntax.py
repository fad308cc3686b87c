from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from templates import NATIVE

from swarm.client import Finish
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Said
from swarm.gateway.tools.reading import CallReading, Manner
from swarm.gateway.tools.syntax import Ids

ONE_CALL = {"channels", "headers"}
TOOLS = {
    "find": {"properties": {"text": {"type": "string"}, "number": {"type": "integer"}, "more": {}}},
    "look_up": {},
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
TEXTS = st.text(st.sampled_from('a b"\\{}[]<>/\n:,é😀') | st.characters(codec="utf-8"), max_size=12)
FIND = st.fixed_dictionaries(
    {"text": TEXTS},
    # Where a text and JSON are written alike, only a schema tells them apart.
    optional={"number": st.integers(-9, 99), "more": VALUES.filter(lambda v: type(v) is not str)},
)
CALLS = st.lists(
    st.tuples(st.just("find"), FIND) | st.tuples(st.just("look_up"), st.just({})),
    min_size=1,
    max_size=3,
)


def given_to(taught, calls):
    found = taught.manners.found
    return [
        found.given(f"id{index:07}", name, arguments, index)
        for index, (name, arguments) in enumerate(calls)
    ]


def read(taught, text, cuts=range(1, 100_000), finish=Finish.EOS, **options):
    manner = Manner(taught.manners.syntax, TOOLS, taught.manners.letters, **options)
    reading = CallReading(0, manner)
    events = [event for piece in taught.pieces(text, cuts) for event in reading.push(piece)]
    return events + reading.end(finish, None)


def told(events):
    """Words, calls and the ending, whatever pieces they came in."""
    words = "".join(event.text for event in events if isinstance(event, Said))
    calls = {event.index: [event.name, ""] for event in events if isinstance(event, CallBegun)}
    for event in events:
        if isinstance(event, CallPart):
            calls[event.index][1] += event.arguments
    (ended,) = [event for event in events if isinstance(event, Ended)]
    return words, [tuple(call) for call in calls.values()], ended.ending


@pytest.mark.parametrize("assured", [False, True])
@pytest.mark.parametrize("name", NATIVE)
@settings(max_examples=30)
@given(calls=CALLS, cuts=st.sets(st.integers(1, 200)))
def test_what_the_template_writes_is_read(taught, name, assured, calls, cuts) -> None:
    model = taught(name)
    if name in ONE_CALL:
        calls = calls[:1]
    text = model.said("", given_to(model, calls))
    words, read_calls, ending = told(read(model, text, cuts, assured=assured))
    assert [(name, json.loads(arguments)) for name, arguments in read_calls] == calls
    assert not words and ending is Ending.CALLS


def test_what_is_found_out(taught) -> None:
    found = {name: taught(name).manners.found for name in NATIVE}
    assert all(found.values())
    assert {name for name in NATIVE if found[name].syntax.again is None} == ONE_CALL
    assert {name for name in NATIVE if found[name].as_text} == {"fenced"}
    assert found["square"].ids is Ids.NINE and found["sections"].ids is Ids.NAMED
    assert {name for name in NATIVE if found[name].syntax.pairs} == {
        "elements",
        "keyed",
        "pythonic",
    }
    assert {name for name in NATIVE if not found[name].syntax.trigger} == {"headers", "pythonic"}
    assert {name for name in NATIVE if found[name].syntax.words} == {"channels"}


@pytest.mark.parametrize("name", ["plain", "turns"])
def test_a_template_without_tools_tells_nothing(taught, name) -> None:
    assert taught(name).manners.found is None
