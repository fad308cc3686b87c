"""Colours in an answer that comes piece by piece: fenced code and headings, nothing else.

A terminal cannot take back what it shows, so only what is known at a line's beginning has a colour.
"""

from __future__ import annotations

import re

_CODE, _FENCE, _HEADING, _PLAIN = "\x1b[36m", "\x1b[2m", "\x1b[1m", "\x1b[0m"
_OPENING = re.compile(r" {0,3}(?:(`{3}|~{3}).*|#{1,6} .*)", re.DOTALL)
_UNDECIDED = re.compile(r" {0,3}(?:`{0,2}|~{0,2}|#{0,6})")


class Ink:
    """Adds colours to text; each line begins and ends without any."""

    def __init__(self) -> None:
        self._held = ""
        self._fence = ""
        self._colour: str | None = None

    def feed(self, text: str) -> str:
        """`text` as it is to be shown; a line's first characters may come with the next piece."""
        shown = []
        for part in text.splitlines(keepends=True):
            shown.append(self._line_part(part))
        return "".join(shown)

    def flush(self) -> str:
        """What was held back; the next text begins anew."""
        held, colour = self._held, self._colour
        self._held, self._fence, self._colour = "", "", None
        return held + (_PLAIN if colour else "")

    def _line_part(self, part: str) -> str:
        """The next characters of one line, perhaps with its end."""
        begin = ""
        if self._colour is None:
            part = self._held + part
            self._held = ""
            if _UNDECIDED.fullmatch(part):
                self._held = part
                return ""
            self._colour = begin = self._choose(part)
        if not part.endswith("\n"):
            return begin + part
        end = _PLAIN if self._colour else ""
        self._colour = None
        return f"{begin}{part[:-1]}{end}\n"

    def _choose(self, line: str) -> str:
        opening = _OPENING.fullmatch(line)
        fence = (opening[1] or "") if opening else ""
        if self._fence:
            if fence != self._fence:
                return _CODE
            self._fence = ""
            return _FENCE
        self._fence = fence
        if fence:
            return _FENCE
        return _HEADING if opening else ""
