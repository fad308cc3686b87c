"""Bodies that are on their way in: how many bytes of them there may be at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .answer import Caller
from .refusals import Reason, Refusal

_ABREAST = 32
_ABREAST_EACH = 8
"""As many of the longest bodies may come at once, of all callers and of one. Usual ones are a
thousandth of that. Who sends them slowly takes room for long, so nobody may take all of it."""

_PAUSE = 1.0
"""Seconds after which there may be room again."""


class Intake:
    """Takes in bodies of at most `most_body` bytes."""

    def __init__(self, most_body: int) -> None:
        self._most_body = most_body
        self._taken: Counter[Caller] = Counter()

    @contextmanager
    def room(self, caller: Caller, size: int | None) -> Iterator[None]:
        """Room for a body of `size` bytes (None: not said) while it comes; raises `Refusal`."""
        size = self._most_body if size is None else min(size, self._most_body)
        together, each = self._taken.total() + size, self._taken[caller] + size
        if together > _ABREAST * self._most_body or each > _ABREAST_EACH * self._most_body:
            text = "too many long bodies are being sent at once"
            raise Refusal(Reason.BUSY, text, retry_after=_PAUSE)
        self._taken[caller] += size
        try:
            yield
        finally:
            self._taken[caller] -= size
            if not self._taken[caller]:
                del self._taken[caller]
