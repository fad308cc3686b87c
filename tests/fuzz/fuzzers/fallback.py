"""The answer of a gateway's fallback: a stream of events in pieces of any size, or anything."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from swarm.gateway.events import CallBegun, CallPart, Ended, Event, Said
from swarm.gateway.fallback.chunks import Interpreter
from swarm.gateway.fallback.parts import Parts, TooLong
from swarm.gateway.refusals import Refusal

from .bounds import Bounds, read
from .fuzzer import Fuzzer

_MOST = 4096
_NUM_CHOICES = 2

_COUNTS = st.sampled_from([0, 1, 2, 7, 2**31, -1, 2**63, 1.5])
_TEXTS = st.sampled_from(["", "one", "é", "\x00", "stop", "length", "tool_calls", "x" * 99])
_ODD = st.none() | st.booleans() | _COUNTS | _TEXTS | st.just([]) | st.just({})


def _some(**fields: Any) -> st.SearchStrategy[Any]:
    """An object with some of these fields, or something odd in its place."""
    return st.fixed_dictionaries({}, optional=fields) | _ODD


_FUNCTIONS = _some(name=st.just("find") | _ODD, arguments=st.just("{}") | _ODD)
_CALLS = st.lists(_some(index=_COUNTS, id=_TEXTS, function=_FUNCTIONS), max_size=4) | _ODD
_TOP = {"token": _TEXTS | st.just("bytes:\\xe2"), "logprob": st.just(-0.5) | _ODD}
_CHANCES = st.lists(
    _some(**_TOP, bytes=st.lists(_COUNTS, max_size=3), top_logprobs=st.lists(_some(**_TOP))),
    max_size=3,
)
_LOGPROBS = _some(
    content=_CHANCES | _ODD,
    tokens=st.lists(_TEXTS, max_size=2),
    token_logprobs=st.lists(st.just(-1.0) | st.none(), max_size=2),
    top_logprobs=st.lists(st.dictionaries(_TEXTS, st.just(-1), max_size=2), max_size=2),
)
_DELTAS = _some(content=_TEXTS | _ODD, refusal=_ODD, tool_calls=_CALLS)
_CHOICES = _some(
    index=st.sampled_from([0, 0, 0, 1, 2]) | _ODD,
    delta=_DELTAS,
    text=_TEXTS,
    finish_reason=st.sampled_from([None, None, "stop", "length", "tool_calls"]) | _ODD,
    logprobs=_LOGPROBS,
    stop_reason=_ODD,
)
_USAGE = _some(
    prompt_tokens=_COUNTS,
    completion_tokens=_COUNTS,
    prompt_tokens_details=_some(cached_tokens=_COUNTS),
)
_CHUNKS = _some(choices=st.lists(_CHOICES, max_size=3), usage=_USAGE, error=_ODD)


def _event(chunk: Any) -> bytes:
    return b"data: %s\n\n" % json.dumps(chunk).encode()


def _answer(choices: list[tuple[list[str], int, str]]) -> list[bytes]:
    """What an honest one says: of each choice some words, some calls, and how it ended."""
    chunks = []
    for choice, (words, num_calls, finish) in enumerate(choices):
        deltas: list[Any] = [{"content": word} for word in words]
        for index in range(num_calls):
            function = {"name": "find", "arguments": "{"}
            deltas.append({"tool_calls": [{"index": index, "id": "1", "function": function}]})
        chunks += [{"choices": [{"index": choice, "delta": delta}]} for delta in deltas]
        chunks.append({"choices": [{"index": choice, "finish_reason": finish}]})
    return [_event(chunk) for chunk in chunks]


_HONEST = st.lists(
    st.tuples(
        st.lists(_TEXTS, max_size=3),
        st.integers(0, 3),
        st.sampled_from(["stop", "length", "tool_calls"]),
    ),
    min_size=_NUM_CHOICES,
    max_size=_NUM_CHOICES,
).map(_answer)
_EVENTS = _CHUNKS.map(_event)
_BYTES = st.sampled_from(
    [
        b"data:", b"data: ", b"\n", b"\r\n", b"\n\n", b": hush\n\n", b"event: error\n", b"[DONE]",
        b"{", b"[" * 2000, b'"' + b"x" * 5000, b"\xff", b"\x00",
    ]
)  # fmt: skip
_WILD = st.lists(_EVENTS | _BYTES | st.binary(max_size=20), max_size=12)
_DISTURBED = st.tuples(_HONEST, st.integers(0, 12), _EVENTS | _BYTES).map(
    lambda drawn: [*drawn[0][: drawn[1]], drawn[2], *drawn[0][drawn[1] :]]
)
_CASES = st.tuples(
    (_HONEST | _DISTURBED | _WILD).map(b"".join),
    st.lists(st.integers(1, 4000), max_size=30),
)

_BOUNDS = Bounds(memory_per_byte=200, lines_per_byte=60)


def _pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for length in [*cuts, len(data)]:
        pieces.append(data[at : at + length])
        at += length
    return pieces


def _told(pieces: list[bytes]) -> tuple[list[Event], bool]:
    """What is understood of it, and whether that is all."""
    parts, interpreter, events = Parts(_MOST), Interpreter(_NUM_CHOICES, ("stop",)), []
    try:
        for piece in pieces:
            for data in parts.feed(piece):
                events += interpreter.push(data)
        interpreter.end()
    except (Refusal, TooLong):
        return events, False
    return events, True


def check(case: tuple[bytes, list[int]]) -> None:
    """Whatever it is, it is an answer of as many choices as were asked for, or breaks off."""
    data, cuts = case
    whole = read(lambda: _told(_pieces(data, cuts)), Refusal, len(data), _BOUNDS)
    assert whole is not None
    events, is_whole = whole
    running, calls = set(range(_NUM_CHOICES)), dict.fromkeys(range(_NUM_CHOICES), 0)
    for event in events:
        assert event.choice in running, "a choice that has ended goes on"
        match event:
            case Ended():
                running.remove(event.choice)
            case CallBegun():
                assert event.index == calls[event.choice] and event.name and event.id
                calls[event.choice] += 1
            case CallPart():
                assert event.index == calls[event.choice] - 1 and event.arguments
            case Said():
                assert event.text or event.tokens
    assert not (is_whole and running), "a choice has no end"
    if is_whole:
        # The same, however it was cut: but for the names that calls were given here.
        again, _ = _told([data])
        assert [type(event) for event in again] == [type(event) for event in events]


FUZZER = Fuzzer(_CASES, check)
