"""The items of an output while they are written, and the events that tell of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..logprobs import TokenLogprob
from .answer import (
    ArgumentsDelta,
    ArgumentsDone,
    ItemAdded,
    ItemDone,
    OutputCall,
    OutputItem,
    OutputMessage,
    PartAdded,
    PartDone,
    StreamEvent,
    TextDelta,
    TextDone,
)
from .items import OutputText, Status, new_id

_PADDED = 32
"""Deltas with their padding have a multiple of so many characters."""


@dataclass
class Numbered:
    """Makes events, and numbers them; pads deltas if `obfuscating`."""

    obfuscating: bool = False
    next_number: int = 0

    def __call__(self, kind: Callable[..., StreamEvent], **fields: Any) -> StreamEvent:
        event = kind(sequence_number=self.next_number, **fields)
        self.next_number += 1
        return event

    def padding(self, delta: str) -> str | None:
        """What hides how long a delta is."""
        missing = -len(delta) % _PADDED
        return secrets.token_urlsafe(_PADDED)[:missing] if self.obfuscating else None


class Writing(Protocol):
    """An item that is not whole yet."""

    def begin(self) -> list[StreamEvent]:
        """What tells that it begins."""

    def end(self, status: Status) -> list[StreamEvent]:
        """What tells that it is whole, or as whole as it will be."""

    def item(self, status: Status) -> OutputItem:
        """The item as it is by now."""


@dataclass
class MessageWriting:
    """A message while it is written."""

    number: Numbered
    output_index: int
    id: str = field(default_factory=lambda: new_id("msg_"))
    _said: list[str] = field(default_factory=list)
    _logprobs: list[TokenLogprob] = field(default_factory=list)

    def begin(self) -> list[StreamEvent]:
        """See `Writing.begin`."""
        empty = OutputMessage(id=self.id, status="in_progress")
        return [
            self.number(ItemAdded, output_index=self.output_index, item=empty),
            self.number(PartAdded, **self._place, part=self._part([], [])),
        ]

    def push(self, text: str, logprobs: Sequence[TokenLogprob]) -> list[StreamEvent]:
        """What tells more of its text."""
        self._said.append(text)
        self._logprobs += logprobs
        delta = self.number(
            TextDelta,
            **self._place,
            delta=text,
            logprobs=list(logprobs),
            obfuscation=self.number.padding(text),
        )
        return [delta]

    def end(self, status: Status) -> list[StreamEvent]:
        """See `Writing.end`."""
        part = self._part(self._said, self._logprobs)
        return [
            self.number(TextDone, **self._place, text=part.text, logprobs=self._logprobs),
            self.number(PartDone, **self._place, part=part),
            self.number(ItemDone, output_index=self.output_index, item=self.item(status)),
        ]

    def item(self, status: Status) -> OutputMessage:
        """See `Writing.item`."""
        content = [self._part(self._said, self._logprobs)]
        return OutputMessage(id=self.id, status=status, content=content)

    def _part(self, said: Sequence[str], logprobs: Sequence[TokenLogprob]) -> OutputText:
        return OutputText("".join(said), logprobs=list(logprobs))

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.output_index, "content_index": 0}


@dataclass
class CallWriting:
    """A call while its arguments are written."""

    number: Numbered
    output_index: int
    call_id: str
    name: str
    id: str = field(default_factory=lambda: new_id("fc_"))
    _arguments: list[str] = field(default_factory=list)

    def begin(self) -> list[StreamEvent]:
        """See `Writing.begin`."""
        return [
            self.number(ItemAdded, output_index=self.output_index, item=self.item("in_progress"))
        ]

    def push(self, arguments: str) -> list[StreamEvent]:
        """What tells more of its arguments."""
        self._arguments.append(arguments)
        delta = self.number(
            ArgumentsDelta,
            item_id=self.id,
            output_index=self.output_index,
            delta=arguments,
            obfuscation=self.number.padding(arguments),
        )
        return [delta]

    def end(self, status: Status) -> list[StreamEvent]:
        """See `Writing.end`."""
        done = self.number(
            ArgumentsDone,
            item_id=self.id,
            output_index=self.output_index,
            name=self.name,
            arguments="".join(self._arguments),
        )
        return [
            done,
            self.number(ItemDone, output_index=self.output_index, item=self.item(status)),
        ]

    def item(self, status: Status) -> OutputCall:
        """See `Writing.item`."""
        return OutputCall(
            id=self.id,
            status=status,
            call_id=self.call_id,
            name=self.name,
            arguments="".join(self._arguments),
        )
