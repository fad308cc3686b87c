"""Completions as they are sent: in chunks, or whole, which is the chunks put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from ..events import Ended, Ending, Event, Said
from .fields import UsageBody
from .logprobs import Logprobs, completion_logprobs

FinishReason = Literal["stop", "length"]


class CompletionChoice(Struct):
    """A text, or what comes to it; chunks but the last have no `finish_reason` yet."""

    index: int
    text: str
    logprobs: Logprobs | None = None
    finish_reason: FinishReason | None = None


class Completion(Struct, kw_only=True):
    """All texts, or in a stream what comes to one of them."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageBody | UnsetType | None = UNSET


class Texts:
    """Turns events into chunks' choices, and knows how long each text is by now."""

    def __init__(self, *, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._lengths: defaultdict[int, int] = defaultdict(int)

    def push(self, event: Event) -> CompletionChoice | None:
        """What an event comes to; nothing where it has no text that is shown."""
        match event:
            case Said(choice, text, tokens):
                start = self._lengths[choice]
                self._lengths[choice] += len(text)
                logprobs = self._logprobs and tokens
                shown = completion_logprobs(tokens, text, start) if logprobs else None
                if not text and shown is None:
                    return None
                return CompletionChoice(choice, text, shown)
            case Ended(choice, ending):
                reason: FinishReason = "length" if ending is Ending.LENGTH else "stop"
                return CompletionChoice(choice, "", finish_reason=reason)
            case _:
                raise AssertionError("a plain text calls no tools")


def put_together(chunks: Iterable[CompletionChoice], *, logprobs: bool) -> list[CompletionChoice]:
    """The choices that chunks are parts of, in order."""
    parts: defaultdict[int, list[CompletionChoice]] = defaultdict(list)
    for chunk in chunks:
        parts[chunk.index].append(chunk)
    choices = []
    for index, own in sorted(parts.items()):
        text = "".join(part.text for part in own)
        shown = Logprobs() if logprobs else None
        for part in own:
            if shown is not None and part.logprobs is not None:
                shown.extend(part.logprobs)
        choices.append(CompletionChoice(index, text, shown, own[-1].finish_reason))
    return choices
