"""Models that have learned nothing, held to a syntax: what they write is read as calls."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch
from templates import CALLING

from swarm.client import Finish, Grammar, Reply
from swarm.client.grammar.compiler import Compiler
from swarm.client.spelling import Spelling
from swarm.client.telling import Telling
from swarm.client.text import TextStream
from swarm.errors import RequestError
from swarm.gateway.ask import Tool, ToolChoice, ToolUse
from swarm.gateway.events import CallBegun, CallPart, Ended, Ending, Said
from swarm.gateway.tools.constraint import Constraint, object_schema
from swarm.gateway.tools.reading import CallReading, Manner

WEATHER = Tool(
    "weather",
    parameters={
        "type": "object",
        "properties": {
            "place": {"type": "string"},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["place", "days"],
        "additionalProperties": False,
    },
)
CLOCK = Tool(
    "clock",
    parameters={"properties": {"utc": {"type": "boolean"}}, "additionalProperties": False},
)
TOOLS = (WEATHER, CLOCK)
BARE = ("headers", "pythonic")
"""What calls look like that no sign tells from text."""

REQUIRED = ToolChoice(ToolUse.REQUIRED)
LIKELY = b'"}])\n<,/'


def right(name: str, arguments: dict) -> bool:
    if name == "clock":
        return set(arguments) <= {"utc"} and all(
            type(value) is bool for value in arguments.values()
        )
    assert name == "weather" and {"place", "days"} <= set(arguments) <= {"place", "days", "unit"}
    assert isinstance(arguments["place"], str) and arguments.get("unit", "C") in ("C", "F")
    return type(arguments["days"]) is int and 1 <= arguments["days"] <= 9


class Writer:
    """Draws at random what a grammar allows."""

    def __init__(self, taught) -> None:
        self.taught = taught
        tokenizer = taught.tokenizer
        self._spelling = Spelling(tokenizer)
        self._compiler = Compiler(lambda: tokenizer, len(tokenizer), lambda: taught.ends)
        self._bias = torch.zeros(len(tokenizer))
        for byte in LIKELY:
            self._bias[tokenizer.convert_tokens_to_ids(self._letter(byte))] = 3.0
        names = tokenizer.added_tokens_decoder.items()
        closing = [number for number, word in names if "end" in word.content.lower()]
        self._bias[[*taught.ends, *closing]] = 6.0

    def _letter(self, byte: int) -> str:
        return self.taught.tokenizer.tokenize(chr(byte))[0]

    def write(self, grammar: Grammar, seed: int, start: str = "", most: int = 400):
        """Pieces of a text that begins so, and how it ended."""
        matcher = asyncio.run(self._compiler.matcher(grammar))
        draws = torch.Generator().manual_seed(seed)
        reply = Reply([0])
        telling = Telling(reply, TextStream(self.taught.tokenizer, self._spelling), self._spelling)
        given = self.taught.tokenizer(start, add_special_tokens=False)["input_ids"]
        pieces = []
        for number in range(most):
            scores = matcher.mask(torch.randn(len(self._bias), generator=draws) + self._bias)
            token = given[number] if number < len(given) else int(scores.argmax())
            assert scores[token] > -torch.inf, f"{start!r} may not be written"
            matcher.advance(token)
            if token in self.taught.ends:
                break
            if piece := telling.push(token):
                pieces.append(piece)
            if matcher.finished:
                break
        else:
            return pieces, Finish.LENGTH
        if piece := telling.flush():
            pieces.append(piece)
        return pieces, Finish.EOS


@pytest.fixture(scope="module")
def writer(taught):
    made = {}

    def make(name):
        if name not in made:
            made[name] = Writer(taught(name))
        return made[name]

    return make


def read(taught, pieces, finish, tools=TOOLS):
    schemas = {tool.name: object_schema(tool) for tool in tools}
    manner = Manner(taught.manners.syntax, schemas, taught.manners.letters, assured=True)
    reading = CallReading(0, manner)
    events = [event for piece in pieces for event in reading.push(piece)]
    events += reading.end(finish, None)
    words = "".join(event.text for event in events if isinstance(event, Said))
    calls = {event.index: [event.name, ""] for event in events if isinstance(event, CallBegun)}
    for event in events:
        if isinstance(event, CallPart):
            calls[event.index][1] += event.arguments
    assert isinstance(events[-1], Ended)
    return words, list(calls.values()), events[-1].ending


def calls_of(writer, constraint, seed, start="", tools=TOOLS):
    pieces, finish = writer.write(constraint.grammar(), seed, start)
    words, calls, ending = read(writer.taught, pieces, finish, tools)
    if finish is Finish.LENGTH:
        assert ending is Ending.LENGTH
        calls = calls[:-1]
    return words, [(name, json.loads(arguments)) for name, arguments in calls], ending


@pytest.mark.parametrize("name", CALLING)
def test_required_calls_are_right(writer, name) -> None:
    """Whatever the model draws, it is a call of a tool that there is, by its schema."""
    model = writer(name)
    constraint = Constraint(model.taught.manners.syntax, TOOLS, REQUIRED)
    num_whole = 0
    for seed in range(6):
        words, calls, ending = calls_of(model, constraint, seed)
        assert not words and all(right(*call) for call in calls)
        num_whole += ending is Ending.CALLS
        assert ending is Ending.LENGTH or calls
    pairs = model.taught.manners.syntax.pairs
    # Only by luck does a text that may hold anything come to its end.
    assert num_whole >= 3 or (pairs and pairs.raw)


@pytest.mark.parametrize("name", CALLING)
def test_a_named_tool_and_one_call_alone(writer, name) -> None:
    model = writer(name)
    choice = ToolChoice(ToolUse.REQUIRED, "clock", parallel=False)
    constraint = Constraint(model.taught.manners.syntax, TOOLS, choice)
    for seed in range(3):
        _, calls, ending = calls_of(model, constraint, seed)
        assert [call[0] for call in calls] == ["clock"] and ending is Ending.CALLS


@pytest.mark.parametrize("name", [name for name in CALLING if name not in BARE])
def test_a_call_that_has_begun_is_right(writer, name) -> None:
    """A model that may say what it likes says something, and then begins to call."""
    model = writer(name)
    syntax = model.taught.manners.syntax
    trigger = syntax.trigger
    if trigger < "\ue000" and trigger >= "\ud800":
        trigger = syntax.special[ord(trigger) - 0xD800]
    constraint = Constraint(syntax, TOOLS, ToolChoice())
    words, calls, ending = calls_of(model, constraint, 1, f"Well, {trigger}")
    assert words == "Well," and all(right(*call) for call in calls)
    assert calls or ending is Ending.LENGTH


@pytest.mark.parametrize("name", CALLING)
def test_text_is_free_until_a_call_begins(writer, name) -> None:
    model = writer(name)
    constraint = Constraint(model.taught.manners.syntax, TOOLS, ToolChoice())
    for text in ('{"a": 1} and so on é😀 <b>', " \n to be", "<tool"):
        pieces, _ = model.write(constraint.grammar(), 0, text, most=len(text.encode()))
        assert "".join(piece.text for piece in pieces) == text


@pytest.mark.parametrize("name", CALLING)
def test_no_call_begins_where_none_may(writer, name) -> None:
    model = writer(name)
    syntax = model.taught.manners.syntax
    grammar = Constraint(syntax, TOOLS, ToolChoice(ToolUse.NONE)).grammar()
    begin = "".join(
        syntax.special[ord(letter) - 0xD800] if "\ud800" <= letter < "\udc00" else letter
        for letter in syntax.begin.lstrip()
    )
    with pytest.raises(AssertionError, match="may not be written"):
        model.write(grammar, 0, begin)


@pytest.mark.parametrize("name", [name for name in CALLING if name not in BARE])
def test_either_calls_or_what_the_answer_is_to_be(writer, name) -> None:
    model = writer(name)
    words = Grammar.json_schema({"type": "object", "properties": {"ok": {"type": "boolean"}}})
    constraint = Constraint(model.taught.manners.syntax, TOOLS, ToolChoice(), words)
    said, calls, _ = calls_of(model, constraint, 0, '{"ok": t')
    assert json.loads(said)["ok"] is True and not calls
    with pytest.raises(AssertionError, match="may not be written"):
        model.write(constraint.grammar(), 0, "Well")


@pytest.mark.parametrize("name", BARE)
def test_calls_that_look_like_answers_are_no_choice(writer, name) -> None:
    model = writer(name)
    words = Grammar.json_object()
    with pytest.raises(RequestError, match="look like answers"):
        Constraint(model.taught.manners.syntax, TOOLS, ToolChoice(), words).grammar()


def test_a_thought_may_come_first(writer) -> None:
    model = writer("thinking")
    syntax = model.taught.manners.syntax
    assert syntax.thoughts
    constraint = Constraint(syntax, TOOLS, REQUIRED)
    words, calls, _ = calls_of(model, constraint, 0, "<think><tool_call></think>\n<tool_call>")
    assert words == "<think><tool_call></think>" and all(right(*call) for call in calls)


def test_a_schema_beyond_grammars_is_held_to_an_object_unless_strict(writer) -> None:
    model = writer("hermes")
    schema = {"type": "object", "not": {"required": ["a"]}}
    for strict in (False, True):
        tool = Tool("odd", parameters=schema, strict=strict)
        constraint = Constraint(model.taught.manners.syntax, (tool,), REQUIRED)
        if strict:
            with pytest.raises(RequestError):
                constraint.grammar()
        else:
            _, calls, _ = calls_of(model, constraint, 3, tools=(tool,))
            assert all(isinstance(arguments, dict) for _, arguments in calls)


def test_parameters_are_an_object() -> None:
    with pytest.raises(RequestError, match="parameters of odd are to be an object"):
        object_schema(Tool("odd", parameters={"type": "string"}))


@pytest.mark.parametrize("name", CALLING)
def test_nothing_of_a_request_is_read_as_an_expression(taught, name):
    """Lark and regular expressions are not bounded against strangers."""
    foreign = 'STRANGER" & ~/x/ | "'
    parameters = {
        "type": "object",
        "properties": {
            f"key {foreign}": {"type": "string", "enum": [f"one {foreign}"]},
            "other": {"type": "string", "pattern": "STRANGER"},
        },
        "required": ["other"],
    }
    tool = Tool(f"say {foreign}", f"Says {foreign}.", parameters)
    words = Grammar.json_schema({"const": foreign})
    for choice in ToolUse:
        for said in (words, None):
            constraint = Constraint(taught(name).manners.syntax, [tool], ToolChoice(choice), said)
            try:
                grammar = constraint.grammar()
            except RequestError:
                assert said is not None and name in BARE
                continue
            kinds = {
                part.kind.value: part.text for part in grammar.walk() if "STRANGER" in part.text
            }
            assert set(kinds) <= {"literal", "json", "until", "text"}
            assert kinds or (choice is ToolUse.NONE and said is None)
