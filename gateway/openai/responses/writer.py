"""From events of no API to a response, and to the events that tell of it one by one."""

from __future__ import annotations

import time
from typing import Any, Literal

from msgspec.structs import replace

from ...events import CallBegun, CallPart, Ended, Ending, Event, Said, Usage
from ...refusals import Reason, Refusal
from ..logprobs import chat_logprobs
from .answer import (
    Completed,
    Created,
    Failed,
    Incomplete,
    IncompleteDetails,
    InProgress,
    InputDetails,
    OutputItem,
    Response,
    ResponseError,
    ResponseUsage,
    StreamEvent,
)
from .items import Status
from .output import CallWriting, MessageWriting, Numbered, Writing

Code = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]

FAILURES: dict[Reason, Code] = {
    Reason.INVALID: "invalid_prompt",
    Reason.UNSUPPORTED: "invalid_prompt",
    Reason.TOO_LONG: "invalid_prompt",
    Reason.BUSY: "rate_limit_exceeded",
}
"""The `code` of a response that broke off; all others are the server's errors."""


class Writer:
    """Writes a response. `response` is what it has come to.

    Several calls may be written at a time. A message ends where a call begins, and calls end where
    words go on, or with the answer.
    """

    def __init__(self, response: Response, *, scored: bool, obfuscating: bool) -> None:
        self.response = response
        self._scored = scored
        self._number = Numbered(obfuscating)
        self._items: list[OutputItem] = []
        self._open: dict[int, Writing] = {}
        self._message: MessageWriting | None = None
        self._calls: dict[int, CallWriting] = {}
        self._ending: Ending | None = None

    def begin(self) -> list[StreamEvent]:
        """The events before the model has said anything."""
        return [self._of_all(Created), self._of_all(InProgress)]

    def push(self, event: Event) -> list[StreamEvent]:
        """What this event means."""
        match event:
            case Said():
                return self._say(event)
            case CallBegun():
                closed = self._close_message("completed")
                call = CallWriting(self._number, len(self._items), event.id, event.name)
                self._calls[event.index] = call
                return closed + self._start(call)
            case CallPart():
                return self._calls[event.index].push(event.arguments)
            case Ended():
                self._ending = event.ending
                begun = [] if self._items else self._begin_message()
                return begun + self._close("incomplete" if self._is_cut else "completed")

    def end(self, usage: Usage) -> StreamEvent:
        """The last event of an answer that has ended."""
        assert self._ending is not None, "an answer ends before its stream does"
        self._change(
            status="incomplete" if self._is_cut else "completed",
            incomplete_details=IncompleteDetails("max_output_tokens") if self._is_cut else None,
            completed_at=None if self._is_cut else time.time(),
            usage=_usage(usage),
        )
        return self._of_all(Incomplete if self._is_cut else Completed)

    def fail(self, refusal: Refusal, usage: Usage) -> StreamEvent:
        """The last event of an answer that broke off."""
        for index, writing in self._open.items():
            self._items[index] = writing.item("incomplete")
        code = FAILURES.get(refusal.reason, "server_error")
        error = ResponseError(code, str(refusal))
        self._change(status="failed", error=error, usage=_usage(usage))
        return self._of_all(Failed)

    @property
    def _is_cut(self) -> bool:
        return self._ending is Ending.LENGTH

    def _say(self, said: Said) -> list[StreamEvent]:
        told = [token for token in said.tokens if token.raw] if self._scored else []
        scores = chat_logprobs(told).content
        if not said.text and not scores:
            return []
        events: list[StreamEvent] = []
        if self._message is None:
            events = self._close("completed") + self._begin_message()
        assert self._message is not None
        return events + self._message.push(said.text, scores)

    def _begin_message(self) -> list[StreamEvent]:
        self._message = MessageWriting(self._number, len(self._items))
        return self._start(self._message)

    def _start(self, writing: Writing) -> list[StreamEvent]:
        self._open[len(self._items)] = writing
        self._items.append(writing.item("in_progress"))
        return writing.begin()

    def _close_message(self, status: Status) -> list[StreamEvent]:
        return self._close(status) if self._message is not None else []

    def _close(self, status: Status) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        last = max(self._open, default=0)
        for index, writing in self._open.items():
            own = status if index == last else "completed"
            self._items[index] = writing.item(own)
            events += writing.end(own)
        self._open, self._calls, self._message = {}, {}, None
        return events

    def _change(self, **fields: Any) -> None:
        self.response = replace(self.response, output=list(self._items), **fields)

    def _of_all(self, kind: type[StreamEvent]) -> StreamEvent:
        return self._number(kind, response=self.response)


def _usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.num_prompt,
        input_tokens_details=InputDetails(usage.num_cached),
        output_tokens=usage.num_completion,
        total_tokens=usage.total,
    )
