"""Chat completions as they are sent: in chunks, or whole, which is the chunks put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from ..events import CallBegun, CallPart, Ended, Ending, Event, Said
from .fields import UsageBody
from .logprobs import ChoiceLogprobs, TokenLogprob, chat_logprobs

FinishReason = Literal["stop", "length", "tool_calls"]

FINISH_REASONS: dict[Ending, FinishReason] = {
    Ending.END: "stop",
    Ending.STOP: "stop",
    Ending.LENGTH: "length",
    Ending.CALLS: "tool_calls",
}


class CallDelta(Struct):
    """More of a call's arguments; as the first of a call, its name with none of them yet."""

    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class FunctionDelta(Struct):
    """A function's name, once, and some of its arguments' text."""

    arguments: str
    name: str | UnsetType = UNSET


class Delta(Struct):
    """What comes to a message."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    tool_calls: list[CallDelta] | UnsetType = UNSET


class ChunkChoice(Struct):
    """What comes to a choice."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None = None


class Chunk(Struct, kw_only=True):
    """One event of a stream. `usage` is there where it was asked for, and not null in the last."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    service_tier: Literal["default"] | UnsetType = UNSET
    usage: UsageBody | UnsetType | None = UNSET


class AnswerFunction(Struct):
    """A function and its arguments' text."""

    name: str
    arguments: str


class AnswerCall(Struct):
    """A call that the program is to make."""

    id: str
    function: AnswerFunction
    type: Literal["function"] = "function"


class AnswerMessage(Struct, kw_only=True):
    """A message of the model. `content` is null where it consists of calls alone."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[AnswerCall] | UnsetType = UNSET


class Choice(Struct):
    """One of the answers."""

    index: int
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Struct, kw_only=True):
    """All answers."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: UsageBody
    service_tier: Literal["default"] | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class Deltas:
    """Turns events into chunks' choices. The first of each choice says its role."""

    def __init__(self, *, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._begun: set[int] = set()

    def push(self, event: Event) -> list[ChunkChoice]:
        """What an event comes to; nothing where it has no text that is shown."""
        choices = []
        if event.choice not in self._begun:
            self._begun.add(event.choice)
            content = None if isinstance(event, CallBegun) else ""
            choices.append(ChunkChoice(event.choice, Delta("assistant", content)))
        told = self._told(event)
        return choices if told is None else [*choices, told]

    def _told(self, event: Event) -> ChunkChoice | None:
        match event:
            case Said(choice, text, tokens):
                shown = chat_logprobs(tokens) if self._logprobs and tokens else None
                if not text and shown is None:
                    return None
                return ChunkChoice(choice, Delta(content=text), shown)
            case CallBegun(choice, index, id, name):
                call = CallDelta(index, FunctionDelta("", name), id, "function")
                return ChunkChoice(choice, Delta(tool_calls=[call]))
            case CallPart(choice, index, arguments):
                call = CallDelta(index, FunctionDelta(arguments))
                return ChunkChoice(choice, Delta(tool_calls=[call]))
            case Ended(choice, ending):
                return ChunkChoice(choice, Delta(), finish_reason=FINISH_REASONS[ending])


@dataclass
class _Growing:
    """A choice while its chunks are put together."""

    content: str | None = None
    calls: dict[int, AnswerCall] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    def add(self, chunk: ChunkChoice) -> None:
        delta = chunk.delta
        if isinstance(delta.content, str):
            self.content = (self.content or "") + delta.content
        for call in delta.tool_calls or ():
            self._add_call(call)
        if chunk.logprobs is not None:
            self.logprobs += chunk.logprobs.content
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason

    def _add_call(self, call: CallDelta) -> None:
        if call.id is not UNSET and call.function.name is not UNSET:
            self.calls[call.index] = AnswerCall(call.id, AnswerFunction(call.function.name, ""))
        self.calls[call.index].function.arguments += call.function.arguments

    def message(self) -> AnswerMessage:
        calls = [self.calls[index] for index in sorted(self.calls)]
        return AnswerMessage(content=self.content, tool_calls=calls or UNSET)


def put_together(chunks: Iterable[ChunkChoice], *, logprobs: bool) -> list[Choice]:
    """The choices that chunks are parts of, in order."""
    growing: dict[int, _Growing] = {}
    for chunk in chunks:
        growing.setdefault(chunk.index, _Growing()).add(chunk)
    choices = []
    for index, choice in sorted(growing.items()):
        assert choice.finish_reason is not None, "a choice ends"
        shown = ChoiceLogprobs(choice.logprobs) if logprobs else None
        choices.append(Choice(index, choice.message(), shown, choice.finish_reason))
    return choices
