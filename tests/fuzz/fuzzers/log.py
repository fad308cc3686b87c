"""What the swarm logs as errors: at a task's root, that is an exception that nobody meant."""

from __future__ import annotations

import logging


class Errors(logging.Handler):
    """Collects them while it is a handler."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))
