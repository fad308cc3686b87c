"""A model in a repository of the Hugging Face hub, at one commit.

Small files go into the ordinary Hugging Face cache; of the weights only the asked byte ranges are
downloaded, into mirrors under `<cache_dir>/<owner>/<name>/<commit>/`. What the hub said about a
commit is kept there too, so that what is complete works without a network.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import quote

import msgspec
from huggingface_hub import HfApi, ModelInfo, hf_hub_download, hf_hub_url
from huggingface_hub import constants as hub_constants
from huggingface_hub import try_to_load_from_cache as find_in_cache
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from swarm.errors import ConfigError
from swarm.quoting import shortened

from .byte_source import ByteSource, LocalFile
from .fingerprint import file_sha256, write_atomically
from .mirror import Mirror, RemoteFile
from .progress import Progress, wait
from .range_client import RangeClient, TransportError, is_offline, refusal
from .repository import FolderRepository, Repository

log = logging.getLogger(__name__)

API_TIMEOUT_S = 20.0
_REPO_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_LONGEST_NAME = 200
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SMALL_SUFFIXES = frozenset({".json", ".txt", ".model", ".jinja", ".tiktoken"})
_SMALL_BYTES = 200_000_000  # tokenizers of large vocabularies reach tens of megabytes


class _HubFile(msgspec.Struct, frozen=True):
    size: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None


class _Listing(msgspec.Struct, frozen=True):
    """A repository's files at one commit."""

    commit: str
    files: dict[str, _HubFile]


def is_repo_id(model: str) -> bool:
    """Whether `model` has the form `owner/name`."""
    return _REPO_ID.fullmatch(model) is not None


def open_repository(
    repo: str, revision: str | None, cache_dir: Path, progress: Progress
) -> Repository:
    """Resolve `revision` (default `main`) of `repo` to a commit, and list its files.

    Raises `ConfigError` when the hub refuses, or cannot be asked and nothing is known from before.
    """
    endpoint = os.environ.get("HF_ENDPOINT", hub_constants.ENDPOINT).rstrip("/")
    kept = cache_dir / repo
    revision = revision or "main"
    try:
        if is_offline():
            raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
        with wait(progress, 0, f"asking the hub for {repo}"):
            listing = _ask(repo, revision, kept, endpoint)
    except (OfflineModeIsEnabled, TransportError, OSError) as error:
        if isinstance(error, HfHubHTTPError):
            status = error.response.status_code
            if status < 500 and status != 429:
                raise ConfigError(refusal(_title(repo, revision), status)) from error
        known = _remembered(kept, revision)
        if known is None:
            return _cached_snapshot(repo, revision, cache_dir, progress, error)
        log.info("hub_unreachable repo=%s commit=%s reason=%s", repo, known.commit, error)
        listing = known
    return HubRepository(repo, listing, cache_dir, endpoint, progress)


def _title(repo: str, revision: str) -> str:
    return repo if revision == "main" else f"{repo} (revision {revision})"


def _ask(repo: str, revision: str, kept: Path, endpoint: str) -> _Listing:
    if _COMMIT.fullmatch(revision) and (known := _remembered(kept, revision)):
        return known  # a commit never changes
    try:
        answer = HfApi(endpoint=endpoint).model_info(
            repo, revision=revision, files_metadata=True, timeout=API_TIMEOUT_S
        )
        listing = _listed(answer)
    except (OfflineModeIsEnabled, TransportError, OSError):
        raise
    except Exception as error:  # huggingface_hub uses what it is sent before it checks it
        raise ConfigError(
            f"{_title(repo, revision)}: this is no answer of a hub: {shortened(error)}"
        ) from error
    try:
        write_atomically(kept / listing.commit / "listing.json", msgspec.json.encode(listing))
        write_atomically(kept / "refs" / quote(revision, safe=""), listing.commit.encode())
    except OSError as error:
        raise ConfigError(f"{kept}: cannot be written: {error.strerror or error}") from error
    return listing


def _listed(answer: ModelInfo) -> _Listing:
    """What the hub says that there is; raises `ValueError` and others where that makes no sense."""
    if not answer.sha or not _COMMIT.fullmatch(answer.sha):
        raise ValueError("it names no commit")
    files = {
        file.rfilename: (
            {"size": file.lfs.size, "sha256": file.lfs.sha256}
            if file.lfs
            else {"size": file.size or 0, "sha256": None}
        )
        for file in answer.siblings or []
        if _plain(file.rfilename)
    }
    return msgspec.convert({"commit": answer.sha, "files": files}, _Listing)


def _plain(name: str) -> bool:
    """Whether a file name from the hub stays inside the folder that it is put into."""
    path = PurePosixPath(name)
    if len(name) > _LONGEST_NAME or not name.isprintable():
        return False
    return (
        bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name
    )


def _remembered(kept: Path, revision: str) -> _Listing | None:
    try:
        commit = revision
        if not _COMMIT.fullmatch(revision):
            commit = (kept / "refs" / quote(revision, safe="")).read_text().strip()
        raw = (kept / commit / "listing.json").read_bytes()
        return msgspec.json.decode(raw, type=_Listing)
    except (OSError, ValueError, RecursionError):
        return None


def _cached_snapshot(
    repo: str, revision: str, cache_dir: Path, progress: Progress, reason: Exception
) -> Repository:
    """What other programs left in the Hugging Face cache, when the hub cannot be asked."""
    found = find_in_cache(repo, "config.json", revision=revision)
    if not isinstance(found, str):
        raise ConfigError(
            f"{_title(repo, revision)}: it is not on this machine, and the hub cannot be reached: "
            f"{reason or type(reason).__name__}"
        ) from reason
    return FolderRepository(Path(found).parent, cache_dir / "hashes", progress, repo)


class HubRepository:
    """One commit of a hub repository."""

    def __init__(
        self, repo: str, listing: _Listing, cache_dir: Path, endpoint: str, progress: Progress
    ) -> None:
        self._repo = repo
        self._listing = listing
        self._cache_dir = cache_dir
        self._endpoint = endpoint
        self._progress = progress

    @property
    def name(self) -> str:
        """The repo id."""
        return self._repo

    @property
    def files(self) -> Mapping[str, int]:
        """Every file's size in bytes."""
        return {name: file.size for name, file in self._listing.files.items()}

    def file(self, name: str) -> Path:
        """See `Repository.file`."""
        title = f"{self._repo}/{name}"
        try:
            path = hf_hub_download(
                self._repo,
                name,
                revision=self._listing.commit,
                endpoint=self._endpoint,
                local_files_only=is_offline(),
            )
        except HfHubHTTPError as error:
            raise ConfigError(refusal(title, error.response.status_code)) from error
        except LocalEntryNotFoundError as error:
            raise ConfigError(
                f"{title}: it is not on this machine, and the hub cannot be reached"
            ) from error
        except Exception as error:  # headers that make no sense come out as they will
            raise ConfigError(f"{title}: cannot be downloaded: {shortened(error)}") from error
        return Path(path)

    def folder(self) -> Path:
        """See `Repository.folder`."""
        small = [
            name
            for name, file in self._listing.files.items()
            if PurePosixPath(name).suffix in _SMALL_SUFFIXES
            and file.size <= _SMALL_BYTES
            and not name.endswith(".index.json")
            and ("/" not in name or name.startswith("additional_chat_templates/"))
        ]
        here = {name for name in small if self._cached(name) is not None}
        total = sum(self._listing.files[name].size for name in small if name not in here)
        with wait(self._progress, total, f"downloading {self._repo}'s vocabulary") as advance:
            for name in small:
                self.file(name)
                advance(0 if name in here else self._listing.files[name].size)
        return self.file("config.json").parent

    def weights(self, name: str) -> ByteSource:
        """See `Repository.weights`. Whole files in the Hugging Face cache are used as they are."""
        if (cached := self._cached(name)) is not None:
            return LocalFile(cached)
        return self._remote(name)

    def _cached(self, name: str) -> Path | None:
        """Where a whole file is in the Hugging Face cache."""
        cached = find_in_cache(self._repo, name, revision=self._listing.commit)
        return Path(cached) if isinstance(cached, str) else None

    def _remote(self, name: str) -> RemoteFile:
        size = self._listing.files[name].size
        title = f"{self._repo}/{name}"
        url = hf_hub_url(self._repo, name, revision=self._listing.commit, endpoint=self._endpoint)
        path = self._cache_dir / self._repo / self._listing.commit / name
        return RemoteFile(RangeClient(url, title, size), Mirror(path, size), title, size)

    def sha256(self, name: str) -> str:
        """See `Repository.sha256`.

        The hub knows it for LFS files, that is practically all weights; one that is small enough
        to lie in git itself is downloaded whole.
        """
        if known := self._listing.files[name].sha256:
            return known
        source = self.weights(name)
        whole = [(0, source.size)]
        if missing := source.missing(whole):
            total = sum(end - begin for begin, end in missing)
            with wait(self._progress, total, f"downloading {name}") as advance:
                source.fetch(whole, advance)
        assert isinstance(source, LocalFile | RemoteFile)
        return file_sha256(source.path, self._cache_dir / "hashes", self._progress)
