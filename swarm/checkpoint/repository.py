"""The seam between a model's files and where they are kept: a folder here, the hub in `hub`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from swarm.errors import ConfigError

from .byte_source import ByteSource, LocalFile
from .fingerprint import file_sha256
from .progress import Progress


class Repository(Protocol):
    """A model's files. Names are relative to its root, with `/`."""

    @property
    def name(self) -> str:
        """What people call the model."""

    @property
    def files(self) -> Mapping[str, int]:
        """Every file's size in bytes."""

    def file(self, name: str) -> Path:
        """A small file (configuration), made local. `name` is one of `files`."""

    def folder(self) -> Path:
        """A local folder with every configuration and tokenizer file, and perhaps no weights."""

    def weights(self, name: str) -> ByteSource:
        """A weight file. `name` is one of `files`."""

    def sha256(self, name: str) -> str:
        """The sha256 of a weight file's contents."""


class FolderRepository:
    """A model in a local folder, as `save_pretrained` writes it."""

    def __init__(self, path: Path, memory: Path, progress: Progress, name: str = "") -> None:
        self._path = path
        self._memory = memory
        self._progress = progress
        self._name = name or path.resolve().name
        try:
            self._files = {
                entry.name: entry.stat().st_size for entry in path.iterdir() if entry.is_file()
            }
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error

    @property
    def name(self) -> str:
        """The folder's name, unless told otherwise."""
        return self._name

    @property
    def files(self) -> Mapping[str, int]:
        """Every file's size in bytes."""
        return self._files

    def file(self, name: str) -> Path:
        """See `Repository.file`."""
        return self._path / name

    def folder(self) -> Path:
        """The folder itself."""
        return self._path

    def weights(self, name: str) -> ByteSource:
        """See `Repository.weights`."""
        return LocalFile(self._path / name)

    def sha256(self, name: str) -> str:
        """See `Repository.sha256`; computed once and remembered."""
        return file_sha256(self._path / name, self._memory, self._progress)
