"""Blocks that outlive the peer that served them: for one that comes back in the same process."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from .placement import Span
    from .taking import Taken


class Standby:
    """Holds what a peer had taken when it ended, until the next one takes it, or for `close`.

    Nothing about weights changes where only the way to the network broke down, and loading them
    again would take longer than finding another one.
    """

    def __init__(self) -> None:
        self._model = ""
        self._taken: Taken | None = None

    def span(self, model: str) -> Span | None:
        """The blocks of this model (by fingerprint) that are held."""
        if self._taken is None or model != self._model:
            return None
        span = self._taken.runner.span
        return span.start, span.end

    def put(self, model: str, taken: Taken) -> None:
        """Holds blocks of a model; whatever was computed with them is forgotten."""
        self.close()
        taken.runner.forget()
        self._model, self._taken = model, taken

    def take(self, model: str, span: Span) -> Taken | None:
        """Gives exactly these blocks, if they are held; any others are given up."""
        if self.span(model) == span:
            taken, self._taken = self._taken, None
            return taken
        self.close()
        return None

    def close(self) -> None:
        """Gives up what is held; may be called again."""
        taken, self._taken = self._taken, None
        if taken is None:
            return
        taken.runner.close()
        del taken
        from . import devices

        devices.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
