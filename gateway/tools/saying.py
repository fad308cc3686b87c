"""Words of a choice, up to a stop string."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..events import Said
from .tape import Spoken, Tape

_CODED = re.compile("[\ud800-\udfff]")
_PARTS = re.compile("[\ud800-\udfff]|[^\ud800-\udfff]+")


def overlap(text: str, word: str) -> int:
    """Length of the longest end of `text` with which `word` begins, but is not complete."""
    longest = min(len(text), len(word) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(word[:n])), 0)


class Saying:
    """Makes events of words, and holds back what may become a stop string.

    Stop strings end a text, as the APIs have it: what stands in a call never does. Where `words` is
    a special token, what stands behind others than that is not said: names of roles and channels.
    """

    def __init__(self, choice: int, stop: Sequence[str], words: str = "") -> None:
        self._choice = choice
        self._stop = tuple(stop)
        self._words = words
        self._is_hidden = False
        self._has_said = False
        self._tape = Tape()
        self.stopped_by: str | None = None

    def say(self, spoken: Spoken) -> list[Said]:
        """What is certain now. Special tokens are no text."""
        tape = self._tape
        text = self._shown(spoken.text)
        if spoken.text and not text:
            return []
        tape.push(Spoken(text, spoken.tokens))
        found = [
            (at + len(stop), at, stop)
            for stop in self._stop
            if (at := tape.unread.find(stop, tape.at)) >= 0
        ]
        if found:
            _, end, self.stopped_by = min(found)
        else:
            held = max((overlap(tape.unread, stop) for stop in self._stop), default=0)
            end = max(len(tape.unread) - held, tape.at)
        return self._said(end)

    def flush(self) -> list[Said]:
        """What was held back, as no more text follows."""
        return [] if self.stopped_by else self._said(len(self._tape.unread))

    def _shown(self, text: str) -> str:
        """What of it is words."""
        if not self._words:
            return _CODED.sub("", text)
        shown = []
        for part in _PARTS.findall(text):
            if part == self._words:
                self._is_hidden = False
                shown += ["\n\n"] * self._has_said
                self._has_said = False
            elif _CODED.match(part):
                self._is_hidden = True
            elif not self._is_hidden:
                shown.append(part)
                self._has_said = True
        return "".join(shown)

    def _said(self, end: int) -> list[Said]:
        self._tape.read(end)
        spoken = self._tape.take(self._tape.num_read)
        if not spoken.text and not spoken.tokens:
            return []
        return [Said(self._choice, spoken.text, spoken.tokens)]
