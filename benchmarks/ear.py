"""What the client says of its links and routes while a benchmark runs."""

from __future__ import annotations

import logging
import time


class Ear(logging.Handler):
    """Hears what the client logs of its links and routes."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[float, str]] = []
        logger = logging.getLogger("swarm")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        logging.getLogger("swarm.transport.neighbours").setLevel(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        """Notes one line."""
        self.heard.append((time.perf_counter(), record.getMessage()))
