"""What was typed in earlier conversations with a group, for the arrow keys."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from prompt_toolkit.history import History

from swarm import state

_KEPT = 1000
"""Lines that are kept from one conversation to the next."""


class PrivateHistory(History):
    """A file that only its owner can read: one JSON string for each input, the newest last.

    Conversations at the same time add to one file. Raises `ConfigError` where that fails.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        state.make_folder(path.parent)

    def load_history_strings(self) -> Iterable[str]:
        """The newest first; what is no line of ours is left out."""
        lines = (state.read(self._path) or b"").splitlines()
        if len(lines) > 2 * _KEPT:
            lines = lines[-_KEPT:]
            state.replace(self._path, b"\n".join(lines) + b"\n")
        for line in reversed(lines[-_KEPT:]):
            try:
                yield msgspec.json.decode(line, type=str)
            except msgspec.DecodeError:
                continue

    def store_string(self, string: str) -> None:
        """Adds one; a full disk only costs that."""
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "ab") as file:
                file.write(msgspec.json.encode(string) + b"\n")
        except OSError:
            return
