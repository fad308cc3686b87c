"""From tokens to text while it streams: only whole characters, and nothing that may yet be a stop.

A token can end in the middle of a character, and what a token reads as depends on the one before
it. So the newest tokens are decoded together with a few earlier ones, and the difference is the new
text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_MAX_HELD = 8
"""Tokens that one character may take; after that a replacement character is what it is."""


class Decoder(Protocol):
    """What is needed of a tokenizer."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of some tokens."""


class TextStream:
    """Turns tokens into pieces of text; `finished` is set when a stop string has come."""

    def __init__(self, decoder: Decoder, stop: Sequence[str] = ()) -> None:
        self._decoder = decoder
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._context = 0
        self._emitted = 0
        self._held = ""
        self.finished = False

    def push(self, token: int) -> str:
        """The text that this token makes certain; may be empty."""
        self._ids.append(token)
        before = self._decode(self._ids[self._context : self._emitted])
        after = self._decode(self._ids[self._context :])
        waited = len(self._ids) - self._emitted
        if len(after) <= len(before) or (after.endswith(_UNFINISHED) and waited < _MAX_HELD):
            return ""
        self._context, self._emitted = self._emitted, len(self._ids)
        return self._release(after[len(before) :])

    def flush(self) -> str:
        """What was held back and is now certain to be text."""
        before = self._decode(self._ids[self._context : self._emitted])
        after = self._decode(self._ids[self._context :])
        self._context = self._emitted = len(self._ids)
        piece = self._release(after[len(before) :])
        held, self._held = self._held, ""
        return piece if self.finished else piece + held

    def _decode(self, ids: Sequence[int]) -> str:
        return self._decoder.decode(ids, skip_special_tokens=True)

    def _release(self, piece: str) -> str:
        """Cuts at a stop string; holds back an end that may become one."""
        text = self._held + piece
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.finished, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
