"""Answers of the Messages API, whole and as events (https://docs.anthropic.com/en/api/streaming)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .. import events

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]

STOP_REASONS: dict[events.Ending, StopReason] = {
    events.Ending.END: "end_turn",
    events.Ending.STOP: "stop_sequence",
    events.Ending.LENGTH: "max_tokens",
    events.Ending.CALLS: "tool_use",
}
"""What each ending is called."""


class SaidBlock(msgspec.Struct, tag_field="type", tag="text"):
    """A block of words."""

    text: str
    citations: None = None


class CalledBlock(msgspec.Struct, tag_field="type", tag="tool_use"):
    """A call of a tool."""

    id: str
    name: str
    input: dict[str, Any]


Content = SaidBlock | CalledBlock


class Usage(msgspec.Struct):
    """Tokens. `input_tokens` are those that were computed, `cache_read_input_tokens` those that
    peers still had; together they are the prompt."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int = 0
    service_tier: Literal["standard"] = "standard"

    @classmethod
    def of(cls, usage: events.Usage) -> Usage:
        """What was used up, in Anthropic's terms."""
        computed = usage.num_prompt - usage.num_cached
        return cls(computed, usage.num_completion, usage.num_cached)


class Message(msgspec.Struct, tag_field="type", tag="message", kw_only=True):
    """An answer. While it is made it has neither content nor a reason to stop."""

    id: str
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Content]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: Usage


class TextDelta(msgspec.Struct, tag_field="type", tag="text_delta"):
    """More words."""

    text: str


class InputDelta(msgspec.Struct, tag_field="type", tag="input_json_delta"):
    """More of a call's input, which is JSON text."""

    partial_json: str


class Stop(msgspec.Struct):
    """Why an answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class StreamEvent(msgspec.Struct, tag_field="type"):
    """An event of a stream; its `type` is its name, too."""

    @property
    def name(self) -> str:
        """The event's name."""
        return str(self.__struct_config__.tag)


class MessageStart(StreamEvent, tag="message_start"):
    """The answer begins."""

    message: Message


class BlockStart(StreamEvent, tag="content_block_start"):
    """A block begins, empty."""

    index: int
    content_block: Content


class BlockDelta(StreamEvent, tag="content_block_delta"):
    """More of a block."""

    index: int
    delta: TextDelta | InputDelta


class BlockStop(StreamEvent, tag="content_block_stop"):
    """A block is complete."""

    index: int


class MessageDelta(StreamEvent, tag="message_delta"):
    """What is known of the answer now that it is complete."""

    delta: Stop
    usage: Usage


class MessageStop(StreamEvent, tag="message_stop"):
    """There is no more."""


class Ping(StreamEvent, tag="ping"):
    """Nothing, for the moment."""


AnyEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping
