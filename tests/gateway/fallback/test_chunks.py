from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.client import ChosenToken
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Event, Said, Usage
from swarm.gateway.fallback.chunks import Interpreter
from swarm.gateway.refusals import Reason, Refusal


def read(*chunks: Any, num_choices: int = 1, stop: tuple[str, ...] = ()) -> list[Event]:
    interpreter = Interpreter(num_choices, stop)
    events = [event for chunk in chunks for event in interpreter.push(json.dumps(chunk).encode())]
    interpreter.end()
    return events


def delta(finish: str | None = None, index: int = 0, **said: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": said, "finish_reason": finish}]}


def call(index: int, arguments: str | None, name: str | None = None) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": name and f"id-{name}", "function": function}


def test_a_chat() -> None:
    assert read(
        delta(role="assistant", content=""),
        delta(content="one ", something="else"),
        delta(content="two"),
        delta("length"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    ) == [Said(0, "one "), Said(0, "two"), Ended(0, Ending.LENGTH)]


def test_a_completion_with_chances() -> None:
    logprobs = {
        "tokens": ["Once", "bytes:\\xe2\\x80"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {"bytes:\\xe2\\x80": -0.5, " a": -1.5}],
        "text_offset": [0, 4],
    }
    (told, _) = read(
        {"choices": [{"index": 0, "text": "Once", "logprobs": logprobs}]}, delta("stop")
    )
    top = ((-1, b"\xe2\x80", -0.5), (-1, b" a", -1.5))
    tokens = (ChosenToken(-1, b"Once"), ChosenToken(-1, b"\xe2\x80", -0.5, top))
    assert told == Said(0, "Once", tokens)


def test_a_chats_chances() -> None:
    chance = {"token": "?", "bytes": [226], "logprob": -1, "top_logprobs": []}
    top = {"token": " b", "bytes": None, "logprob": -2.0}
    chunk = delta(content="")
    chunk["choices"][0]["logprobs"] = {"content": [{**chance, "top_logprobs": [top]}]}
    (told, _) = read(chunk, delta("stop"))
    assert told == Said(0, "", (ChosenToken(-1, b"\xe2", -1, ((-1, b" b", -2.0),)),))


def test_calls() -> None:
    events = read(
        delta(tool_calls=[call(0, "", "add")]),
        delta(tool_calls=[call(0, '{"a":')]),
        delta(tool_calls=[call(0, "1}"), call(1, "{}", "sub")]),
        delta("tool_calls"),
    )
    assert events == [
        CallBegun(0, 0, "id-add", "add"),
        CallPart(0, 0, '{"a":'),
        CallPart(0, 0, "1}"),
        CallBegun(0, 1, "id-sub", "sub"),
        CallPart(0, 1, "{}"),
        Ended(0, Ending.CALLS),
    ]
    assert read(delta(tool_calls=[call(0, "{}", "add")]), delta("stop"))[-1] == Ended(
        0, Ending.CALLS
    )


def test_a_stop_string_is_told_where_it_is() -> None:
    stopped = delta("stop")
    stopped["choices"][0]["stop_reason"] = "END"
    assert read(stopped, stop=("END",)) == [Ended(0, Ending.STOP, "END")]
    assert read(stopped, stop=("other",)) == [Ended(0, Ending.END)]


def test_what_it_has_taken() -> None:
    interpreter = Interpreter(1)
    details = {"cached_tokens": 5}
    spent = {"prompt_tokens": 8, "completion_tokens": 2, "prompt_tokens_details": details}
    interpreter.push(json.dumps({"usage": spent}).encode())
    assert interpreter.usage == Usage(8, 5, 2)


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [delta(content="cut off")],
        [delta("stop"), delta(content="more")],
        [delta("stop"), delta("stop")],
        [delta("stop", index=1)],
        [delta("content_filter")],
        [delta(tool_calls=[call(0, "{}")])],
        [delta(tool_calls=[call(1, "{}", "add")])],
        [delta(tool_calls=[call(0, "", "a"), call(1, "", "b"), call(0, "{}")])],
        [{"error": {"message": "out of memory"}}],
        [{"choices": [{"index": -1}]}],
        [{"choices": "none"}],
        [{"choices": [{"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": []}}]}],
        ["text"],
    ],
    ids=str,
)
def test_what_is_no_answer_breaks_off(chunks: list[Any]) -> None:
    with pytest.raises(Refusal) as refused:
        read(*chunks)
    assert refused.value.reason is Reason.NO_ROUTE


KEYS = """choices index delta content tool_calls function name arguments finish_reason logprobs
tokens usage error text""".split()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30)))
def test_whatever_comes_is_an_event_or_a_refusal(parts: list[bytes]) -> None:
    interpreter = Interpreter(2)
    try:
        for part in parts:
            interpreter.push(part)
        interpreter.end()
    except Refusal:
        pass
