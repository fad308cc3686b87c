"""What a model writes that may call tools, in pieces of any size.

A model's peers can make it write anything, and so can whoever writes its prompts.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from swarm.client import ChosenToken, Finish, Piece
from swarm.gateway.events import CallBegun, CallPart, Ended, Said
from swarm.gateway.tools.reading import CallReading, Manner
from swarm.gateway.tools.syntax import ID, INDEX, PLAIN, Pairs, Syntax, letter_of

from .bounds import Bounds, bounded
from .fuzzer import Fuzzer

_CALLS, _END, _THINK, _THOUGHT = (letter_of(number) for number in range(4))
_SYNTAXES = {
    "plain": PLAIN,
    "thinking": replace(PLAIN, thoughts=("<think>", "</think>")),
    "list": Syntax(
        f'{_CALLS} [{{"name": "', '", "arguments": ', f', "id": "{ID}"}}]',
        f', "id": "{ID}"}}, {{"name": "', thoughts=(_THINK, _THOUGHT),
    ),
    "bare": Syntax('{"name": "', '", "arguments": ', "}", thoughts=("<think>", "</think>")),
    "counted": Syntax(
        f"{_CALLS}functions.", f":{INDEX}{_THINK}", f"{_THOUGHT}{_END}",
        f"{_THOUGHT}functions.",
    ),
    "elements": Syntax(
        "<tool_call>\n<function=", ">\n<parameter=", "\n</function>\n</tool_call>",
        "\n</function>\n</tool_call>\n<tool_call>\n<function=",
        Pairs(">\n", "\n</parameter>", "\n<parameter=", ">", raw=True),
    ),
    "framed": Syntax(
        " to=functions.", f"{_CALLS}json{_END}", "", variants=(f" {_THINK}{_END}",), words=_END
    ),
    "pythonic": Syntax("[", "(", ")]", "), ", Pairs("=", "", ", ", "(", raw=False)),
}  # fmt: skip
_TOOLS = {
    "find": {"properties": {"text": {"type": "string"}, "n": {"type": ["integer"]}}},
    "go": {},
}
_LETTERS = dict(enumerate((_CALLS, _END, _THINK, _THOUGHT)))
_ORDINARY = 9

_CALL = '<tool_call>\n{"name": "find", "arguments": {"text": "a"}}\n</tool_call>'
_WORDS = [
    _CALL, _CALL[:-20], "<tool_call>", "</tool_call>", '{"name": "', "find", "go",
    '", "arguments": ', '{"text": "', '"}', "{", "}", "[", "]", '"', "\\", "\n", " ", "\u3000", ",",
    "(", ")", "=", "n", "1", "text", "<think>", "</think>", "<function=", ">\n<parameter=",
    "\n</parameter>", "\n</function>", "to=", "functions.", ":0", ', "id": "abcdefghi"}', "STOP",
    "ST", "é", "😀", "\x00", _CALLS, _END, _THINK, _THOUGHT, f'{_CALLS} [{{"name": "',
    f"{_CALLS}functions.find:0{_THINK}",
]  # fmt: skip
_PARTS = st.sampled_from(_WORDS) | st.text(max_size=4)
_TEXTS = st.lists(st.tuples(_PARTS, st.sampled_from([1, 1, 1, 2, 40])), max_size=14).map(
    lambda parts: "".join(part * times for part, times in parts)
)
_CASES = st.fixed_dictionaries(
    {
        "syntax": st.sampled_from(sorted(_SYNTAXES)),
        "text": _TEXTS,
        "cuts": st.lists(st.integers(1, 60), max_size=20),
        "assured": st.booleans(),
        "is_thinking": st.booleans(),
        "stop": st.sampled_from([(), ("STOP",), ("OP", "S")]),
        "most": st.sampled_from([None, 1]),
        "finish": st.sampled_from(sorted(Finish)),
    }
)

_BOUNDS = Bounds(memory=128 * 1024, memory_per_byte=4096, lines=6_000, lines_per_byte=400)
"""A letter may be a piece of its own, with its token."""


def _pieces(text: str, cuts: list[int]) -> list[Piece]:
    pieces, lengths = [], iter(cuts)
    for part in re.findall("[\ud800-\udfff]|[^\ud800-\udfff]+", text):
        at = 0
        while at < len(part):
            end = at + next(lengths, len(part))
            pieces.append(_piece(part[at:end]))
            at = end
    return pieces


def _piece(text: str) -> Piece:
    for number, letter in _LETTERS.items():
        if text == letter:
            return Piece("", (ChosenToken(number, b""),))
    return Piece(text, (ChosenToken(_ORDINARY, text.encode()),))


def _read(pieces: list[Piece], manner: Manner, finish: Finish) -> tuple[str, list[Any], Ended]:
    reading = CallReading(0, manner)
    events = []
    for piece in pieces:
        events += reading.push(piece)
        if events and isinstance(events[-1], Ended):
            break
    else:
        events += reading.end(finish, None)
    words = "".join(event.text for event in events if isinstance(event, Said))
    calls = [[event.name, ""] for event in events if isinstance(event, CallBegun)]
    for event in events:
        if isinstance(event, CallPart):
            calls[event.index][1] += event.arguments
    assert [isinstance(event, Ended) for event in events].count(True) == 1
    assert isinstance(events[-1], Ended)
    return words, calls, events[-1]


def check(case: dict[str, Any]) -> None:
    """Whatever it is, it is read, and the same however it is cut; calls are calls."""
    syntax, text = _SYNTAXES[case["syntax"]], case["text"]
    text = re.sub("[\ud804-\udfff]", "", text)
    manner = Manner(
        syntax,
        _TOOLS,
        _LETTERS,
        case["assured"],
        case["most"],
        case["is_thinking"] and syntax.thoughts is not None,
        case["stop"],
    )
    finish = case["finish"]
    whole = _read(_pieces(text, []), manner, finish)
    pieces = _pieces(text, case["cuts"])
    with bounded(len(text.encode(errors="replace")), _BOUNDS):
        assert _read(pieces, manner, finish) == whole
    words, calls, _ = whole
    assert not re.search("[\ud800-\udfff]", words + "".join(call[1] for call in calls))
    assert all(name in _TOOLS for name, _ in calls)
    if not case["assured"] and finish is not Finish.LENGTH:
        assert all(isinstance(json.loads(arguments), dict) for _, arguments in calls)
    if not calls and not case["assured"] and not case["stop"] and not syntax.words:
        assert words == re.sub("[\ud800-\udfff]", "", text)


FUZZER = Fuzzer(_CASES, check)
