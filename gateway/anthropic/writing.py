"""From what becomes of an ask to the events of a stream, and from those to a whole answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ..events import CallBegun, CallPart, Ended, Event, Said
from .answer import (
    STOP_REASONS,
    AnyEvent,
    BlockDelta,
    BlockStart,
    BlockStop,
    CalledBlock,
    Content,
    InputDelta,
    Message,
    MessageDelta,
    MessageStop,
    SaidBlock,
    Stop,
    TextDelta,
    Usage,
)


class Writing:
    """Writes the blocks of one answer: words on end are one block, and so is each call."""

    def __init__(self) -> None:
        self._index = -1
        self._open: type[Content] | None = None
        self._stop: Stop | None = None

    def push(self, event: Event) -> Iterator[AnyEvent]:
        """What to send for this."""
        match event:
            case Said(text=text):
                if text:
                    if self._open is not SaidBlock:
                        yield from self._begin(SaidBlock(""))
                    yield BlockDelta(self._index, TextDelta(text))
            case CallBegun(id=call, name=name):
                yield from self._begin(CalledBlock(call, name, {}))
            case CallPart(arguments=arguments):
                assert self._open is CalledBlock, "a call begins before it has arguments"
                if arguments:
                    yield BlockDelta(self._index, InputDelta(arguments))
            case Ended(ending=ending, stopped_by=stopped_by):
                yield from self._close()
                self._stop = Stop(STOP_REASONS[ending], stopped_by)

    def end(self, usage: Usage) -> Iterator[AnyEvent]:
        """What to send when all has been pushed."""
        assert self._stop is not None, "an answer ends for a reason"
        yield MessageDelta(self._stop, usage)
        yield MessageStop()

    def _begin(self, block: Content) -> Iterator[AnyEvent]:
        yield from self._close()
        self._index += 1
        self._open = type(block)
        yield BlockStart(self._index, block)

    def _close(self) -> Iterator[AnyEvent]:
        if self._open is not None:
            yield BlockStop(self._index)
        self._open = None


class Gathering:
    """Puts the events of a stream together again, for those who want no stream."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self._parts: list[str] = []

    def push(self, event: AnyEvent) -> None:
        """Adds what this tells."""
        match event:
            case BlockStart(content_block=block):
                self.message.content.append(block)
                self._parts = []
            case BlockDelta(delta=TextDelta(text=part) | InputDelta(partial_json=part)):
                self._parts.append(part)
            case BlockStop():
                content = self.message.content
                content[-1] = _filled(content[-1], "".join(self._parts))
            case MessageDelta(delta=stop, usage=usage):
                self.message.stop_reason = stop.stop_reason
                self.message.stop_sequence = stop.stop_sequence
                self.message.usage = usage


def _filled(block: Content, text: str) -> Content:
    if isinstance(block, SaidBlock):
        return SaidBlock(text)
    return CalledBlock(block.id, block.name, whole_input(text))


def whole_input(text: str) -> dict[str, Any]:
    """A call's input. Of one that was cut off (`max_tokens`), the values that are whole."""
    for whole in (text, _mended(text)):
        try:
            return msgspec.json.decode(whole, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            continue
    return {}


def _mended(text: str) -> str:
    """JSON that breaks off, cut after its last whole value, with its brackets closed."""
    closers: list[str] = []
    end, quoting, escaped = 0, False, False
    for place, char in enumerate(text):
        if quoting:
            quoting = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            quoting = True
        elif char in "{[":
            closers.append("}" if char == "{" else "]")
            end = place + 1
        elif char in "}]" and closers:
            closers.pop()
            end = place + 1
        elif char == ",":
            end = place
    # Brackets open and close only where `end` was set: these are the ones open there.
    return text[:end] + "".join(reversed(closers))
