"""What a peer remembers of its last run: a restart begins with the same blocks."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from swarm import state
from swarm.errors import ConfigError

logger = logging.getLogger(__name__)

_FILE = "served.json"


class _Served(msgspec.Struct, frozen=True):
    model: str
    start: int
    end: int


class Notes:
    """Notes about one model, by fingerprint; without a folder nothing is remembered."""

    def __init__(self, folder: Path | None, model: str) -> None:
        self._path = folder and folder / _FILE
        self._model = model

    def span(self) -> tuple[int, int] | None:
        """The blocks of this model that were served last; None where that is not known."""
        try:
            content = state.read(self._path) if self._path is not None else None
            if content is None:
                return None
            served = msgspec.json.decode(content, type=_Served)
        except (ConfigError, msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("last blocks not known why=%s", error)
            return None
        if served.model != self._model or not 0 <= served.start < served.end:
            return None
        return served.start, served.end

    def keep(self, span: tuple[int, int]) -> None:
        """Writes down what is served now; a folder that cannot be written costs only the memory."""
        if self._path is None:
            return
        try:
            state.replace(self._path, msgspec.json.encode(_Served(self._model, *span)))
        except ConfigError as error:
            logger.warning("blocks not remembered why=%s", error)
