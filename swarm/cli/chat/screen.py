"""What a conversation shows: answers on standard output, all else on standard error."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rich.console import Console, RenderableType

from .._options import shown
from .clean import clean
from .ink import Ink


class Screen:
    """Writes answers as they come, and notes between them, each on lines of its own."""

    def __init__(self, out: TextIO | None = None, console: Console | None = None) -> None:
        self._out = out or sys.stdout
        self._console = console or Console(stderr=True)
        colours = self._out.isatty() and not os.environ.get("NO_COLOR")
        self._ink = Ink() if colours and os.environ.get("TERM") != "dumb" else None
        self._within_line = False

    @property
    def console(self) -> Console:
        """For tables and the like; standard error."""
        return self._console

    def write(self, piece: str) -> None:
        """Shows the next piece of an answer."""
        self._put(clean(piece))

    def end(self) -> None:
        """The answer is over, at least for now: what comes next begins a line."""
        if self._ink is not None and (held := self._ink.flush()):
            self._within_line = True
            self._raw(held)
        if self._within_line:
            self._raw("\n")
            self._within_line = False

    def note(self, text: str, style: str = "dim") -> None:
        """One line about the conversation, or several."""
        self.end()
        self._console.print(
            "\n".join(map(shown, text.split("\n"))), style=style, highlight=False, soft_wrap=True
        )

    def error(self, text: str) -> None:
        """What went wrong."""
        self.note(text, "red")

    def show(self, what: RenderableType) -> None:
        """A table."""
        self.end()
        self._console.print(what)

    def _put(self, text: str) -> None:
        if text:
            self._within_line = not text.endswith("\n")
            self._raw(text if self._ink is None else self._ink.feed(text))

    def _raw(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
