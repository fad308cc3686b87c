from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.client import ChosenToken, Finish, Piece
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Said
from swarm.gateway.tools.reading import CallReading, Manner
from swarm.gateway.tools.syntax import PLAIN

TOOLS = {"find": {"properties": {"text": {"type": "string"}}}, "look_up": {}}
CALL = '<tool_call>\n{"name": "find", "arguments": {"text": "a"}}\n</tool_call>'
NATIVE = [
    "action",
    "bracket",
    "channels",
    "elements",
    "headers",
    "hermes",
    "pythonic",
    "square",
    "thinking",
]


def manner(taught=None, **options) -> Manner:
    if taught is None:
        return Manner(PLAIN, TOOLS, **options)
    return Manner(taught.manners.syntax, TOOLS, taught.manners.letters, **options)


def read(pieces, finish=Finish.EOS, **options):
    reading = CallReading(0, manner(**options))
    events = [event for piece in pieces for event in reading.push(piece)]
    return events + ([] if any(isinstance(e, Ended) for e in events) else reading.end(finish, None))


def letters(text: str) -> list[Piece]:
    return [Piece(letter, (ChosenToken(3, letter.encode()),)) for letter in text]


def told(events):
    """Words and calls in their order, whatever pieces they came in, and how it ended."""
    parts: list = []
    for event in events:
        match event:
            case Said(_, text) if text:
                if parts and isinstance(parts[-1], str):
                    parts[-1] += text
                else:
                    parts.append(text)
            case CallBegun(_, index, _, name):
                parts.append([index, name, ""])
            case CallPart(_, index, arguments):
                assert parts[-1][0] == index
                parts[-1][2] += arguments
    ended = events[-1]
    assert isinstance(ended, Ended)
    return parts, ended.ending, ended.stopped_by


def test_words_before_between_and_after_calls() -> None:
    text = f"Let me see. \n{CALL}\n{CALL} Then: \n\n{CALL}\n"
    call = ["find", '{"text": "a"}']
    parts, ending, _ = told(read(letters(text)))
    assert parts == ["Let me see.", [0, *call], [1, *call], " Then:", [2, *call]]
    assert ending is Ending.CALLS


def test_ids_are_all_different() -> None:
    ids = [event.id for event in read(letters(CALL * 50)) if isinstance(event, CallBegun)]
    assert len(set(ids)) == 50 and all(each.startswith("call_") for each in ids)


def test_arguments_stream_where_the_model_is_held_to_the_syntax() -> None:
    reading = CallReading(0, manner(assured=True))
    begun = next(
        n
        for n in range(len(CALL))
        if any(isinstance(event, CallBegun) for event in reading.push(letters(CALL)[n]))
    )
    assert CALL[: begun + 1].endswith('"arguments":')
    parts = [
        event.arguments
        for piece in letters(CALL[begun + 1 :])
        for event in reading.push(piece)
        if isinstance(event, CallPart)
    ]
    assert "".join(parts) == '{"text": "a"}' and len(parts) > 10


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call>\n{",
        '<tool_call>{"name": "find"}</tool_call>',
        '<tool_call>{"name": "no_such", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "find", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "find", "arguments": {"a": tru}}</tool_call>',
        '<tool_call>{"name": "find", "arguments": {]}}</tool_call>',
        '<tool_call>{"name": "find", "arguments": {"a": 1}',
        '<tool_call>{"name": "find", "arguments": {"a": '
        + "[" * 300
        + "]" * 300
        + "}}</tool_call>",
        "a <tool_call>b</tool_call> c <tool_",
        "   ",
    ],
)
def test_what_is_no_call_is_text(text) -> None:
    if text.endswith('{"a": 1}'):
        text += "!"
    parts, ending, _ = told(read(letters(text)))
    assert parts == [text] and ending is Ending.END


def test_a_call_behind_one_that_is_none() -> None:
    parts, ending, _ = told(read(letters(f"<tool_call><tool_call>{CALL}")))
    assert parts[0] == "<tool_call><tool_call>" and parts[1][1] == "find"
    assert ending is Ending.CALLS


@pytest.mark.parametrize("assured", [False, True])
def test_a_call_that_is_cut_off_tells_what_came(assured) -> None:
    cut = CALL[: CALL.index('a"}}')]
    parts, ending, _ = told(read(letters(f"Well {cut}"), Finish.LENGTH, assured=assured))
    assert parts[0] == "Well" and parts[1][1] == "find"
    assert parts[1][2] == '{"text": "' and ending is Ending.LENGTH


def test_a_mark_that_is_cut_off_does_not_show() -> None:
    parts, ending, _ = told(read(letters("Well <tool_call>\n{"), Finish.LENGTH, assured=True))
    assert parts == ["Well"] and ending is Ending.LENGTH


def test_a_call_whose_last_mark_ended_the_reply_is_one() -> None:
    """The mark is the token that ends a reply, which is never shown."""
    parts, ending, _ = told(read(letters(CALL.removesuffix("}\n</tool_call>"))))
    assert parts[0][1:] == ["find", '{"text": "a"}'] and ending is Ending.CALLS


def test_stop_strings_end_words_and_no_calls() -> None:
    events = read(letters(f"one {CALL} tex"), stop=("text", "find"))
    parts, ending, stopped = told(events)
    assert parts[1][2] == '{"text": "a"}' and parts[2] == " tex" and ending is Ending.CALLS
    parts, ending, stopped = told(read(letters(f"one te {CALL} a text b"), stop=("text",)))
    assert parts[0] == "one te" and parts[2] == " a "
    assert ending is Ending.STOP and stopped == "text"


def test_one_call_is_the_last_where_more_are_not_wanted() -> None:
    parts, ending, _ = told(read(letters(f"{CALL}{CALL} and so on"), most=1))
    assert len(parts) == 1 and ending is Ending.CALLS


def test_a_thought_calls_nothing(taught) -> None:
    text = f"<think>I could {CALL}.</think>\n\n{CALL}"
    model = taught("thinking")
    parts, _, _ = told(read(model.pieces(text), taught=model))
    assert parts[0] == f"<think>I could {CALL}.</think>" and len(parts) == 2
    begun = model.pieces(f"{CALL}</think>{CALL}")
    parts, _, _ = told(read(begun, taught=model, is_thinking=True))
    assert parts[0] == f"{CALL}</think>" and len(parts) == 2


def test_a_sign_written_letter_by_letter_is_text(taught) -> None:
    """Only the special token begins a call, not its name."""
    model = taught("square")
    text = '[TOOL_CALLS] [{"name": "find", "arguments": {}, "id": "abcdefghi"}]'
    assert told(read(model.pieces(text), taught=model))[1] is Ending.CALLS
    parts, ending, _ = told(read(letters(text), taught=model))
    assert parts == [text] and ending is Ending.END


def test_json_elsewhere_than_at_the_beginning_is_text(taught) -> None:
    model = taught("headers")
    text = '{"name": "find", "parameters": {"text": "a"}}'
    parts, ending, _ = told(read(letters(f" \n{text}"), taught=model))
    assert parts[0][1:] == ["find", '{"text": "a"}'] and ending is Ending.CALLS
    parts, ending, _ = told(read(letters(f"It is {text}"), taught=model))
    assert parts == [f"It is {text}"] and ending is Ending.END


def test_spaces_are_the_models_own() -> None:
    text = '<tool_call>{ "name" :"find" ,\n "arguments":\t{ "text" : "a" } }</tool_call>'
    parts, _, _ = told(read(letters(text)))
    assert parts == [[0, "find", '{ "text" : "a" }']]


def test_the_tokens_of_words_come_with_them_and_those_of_calls_do_not() -> None:
    pieces = [
        Piece(text, (ChosenToken(number, text.encode(), -1.0),))
        for number, text in enumerate(
            ["One", " ", "<tool", "_call>", CALL[11:], "\nTwo", " <", "b>"]
        )
    ]
    events = read(pieces)
    said = [event for event in events if isinstance(event, Said)]
    assert [token.id for event in said for token in event.tokens] == [0, 5, 6, 7]
    assert "".join(event.text for event in said) == "One\nTwo <b>"


def test_names_of_channels_are_no_words(taught) -> None:
    model = taught("channels")
    begin = "<|channel|>analysis<|message|>Rain?<|end|><|start|>assistant"
    parts, ending, _ = told(
        read(model.pieces(f"{begin}<|channel|>final<|message|>It rains."), taught=model)
    )
    assert parts == ["Rain?\n\nIt rains."] and ending is Ending.END
    for call in (
        " to=functions.find<|channel|>commentary json<|message|>{}",
        "<|channel|>commentary to=functions.find <|constrain|>json<|message|>{}",
    ):
        parts, ending, _ = told(read(model.pieces(begin + call), taught=model))
        assert parts == ["Rain?", [0, "find", "{}"]] and ending is Ending.CALLS


PARTS = st.sampled_from(
    [
        CALL,
        "<tool_call>",
        "</tool_call>",
        "\n",
        " ",
        '{"name": "',
        "find",
        '", "arguments": ',
        "{",
        "}",
        "[",
        "]",
        '"',
        "\\",
        ",",
        "1",
        "é😀",
        "<think>",
        "</think>",
        "[TOOL_CALLS]",
        "</s>",
        ", ",
        '"id": "abcdefghi"',
        "<function=",
        ">",
        "\n<parameter=text>\n",
        "\n</parameter>",
        "(",
        "text=",
        ")",
        "<|START_ACTION|>",
        "<|END_ACTION|>",
        "[ARGS]",
        "look_up",
        "STOP",
    ]
)
TEXTS = st.lists(PARTS | st.text(max_size=3), max_size=12).map("".join)


@pytest.mark.parametrize("name", NATIVE)
@settings(max_examples=30)
@given(
    text=TEXTS,
    cuts=st.sets(st.integers(1, 150)),
    assured=st.booleans(),
    finish=st.sampled_from([Finish.EOS, Finish.LENGTH]),
)
def test_however_it_is_cut_the_same_is_read(taught, name, text, cuts, assured, finish) -> None:
    model = taught(name)
    options = {"taught": model, "assured": assured, "stop": ("STOP",)}
    whole = told(read(model.pieces(text, []), finish, **options))
    assert told(read(model.pieces(text, cuts), finish, **options)) == whole
    if not assured and finish is Finish.EOS:
        for part in whole[0]:
            assert isinstance(part, str) or isinstance(json.loads(part[2]), dict)
