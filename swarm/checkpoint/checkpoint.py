"""A model's weights by span."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import platformdirs

from swarm.errors import ConfigError

from .layout import renumbered
from .model_config import context_length
from .progress import Advance, Progress, Silent, wait

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

    from swarm.forms import Stored

    from .tensor_source import TensorSource


BLOCK_DIGEST_LEN = 8
"""Bytes of a block's digest: peers announce one for each block that they hold."""


def open_checkpoint(
    model: str,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Open `model`: an existing folder or `.gguf` file, else a Hugging Face repo id.

    Reads configuration and headers, no weights; the fingerprint of local files hashes them once.
    `revision` (branch, tag or commit) is for repo ids alone. `cache_dir` holds downloaded weight
    ranges, remembered hashes and GGUF files' tokenizers (default: `weights` in the user's cache
    folder). Blocks; call it in a thread. Raises `ConfigError` that says what the matter is.
    """
    cache_dir = cache_dir or platformdirs.user_cache_path("homeswarm") / "weights"
    progress = progress or Silent()
    path = Path(model).expanduser()
    if path.exists():
        if revision is not None:
            raise ConfigError(f"{model}: a revision belongs to a repo id, this is a local path")
        return Checkpoint(_open_path(path, cache_dir, progress), progress)
    from . import hub
    from .safetensors_source import SafetensorsSource

    if not hub.is_repo_id(model):
        raise ConfigError(
            f"{model!r} is neither an existing folder or .gguf file (looked at {path.absolute()}) "
            "nor a Hugging Face repo id of the form owner/name"
        )
    repository = hub.open_repository(model, revision, cache_dir, progress)
    return Checkpoint(SafetensorsSource(repository, progress), progress)


def _open_path(path: Path, cache_dir: Path, progress: Progress) -> TensorSource:
    if path.is_dir():
        from .repository import FolderRepository
        from .safetensors_source import SafetensorsSource

        return SafetensorsSource(FolderRepository(path, cache_dir / "hashes", progress), progress)
    if path.suffix.lower() != ".gguf":
        raise ConfigError(f"{path}: neither a folder nor a .gguf file")
    from .gguf_source import GgufSource

    return GgufSource(path, cache_dir, progress)


class Checkpoint:
    """An opened model. Made by `open_checkpoint`; methods block, and any thread may call them."""

    def __init__(self, source: TensorSource, progress: Progress | None = None) -> None:
        self._source = source
        self._progress = progress or Silent()
        self._tokenizer: PreTrainedTokenizerBase | None = None

    @property
    def name(self) -> str:
        """Repo id, folder name or file name."""
        return self._source.name

    @property
    def fingerprint(self) -> str:
        """32 hex digits; equal for equal config and weights, wherever they are kept."""
        return self._source.fingerprint

    @property
    def config(self) -> PreTrainedConfig:
        """The text model's transformers config, with the full number of blocks."""
        return self._source.config

    @property
    def num_blocks(self) -> int:
        """How many blocks the model has."""
        return len(self._source.block_sizes)

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states between blocks."""
        return int(self.config.hidden_size)

    @property
    def context_length(self) -> int:
        """How many positions the model was made for."""
        return context_length(self.config)

    @property
    def block_bytes(self) -> int:
        """Bytes of the largest block as stored; a quantized one (GGUF, fp8) grows when loaded."""
        return max(self._source.block_sizes)

    @property
    def bytes_read(self) -> int:
        """Weight bytes that `load_blocks` and `load_ends` read so far, as stored."""
        return self._source.bytes_read

    def load_blocks(self, start: int, end: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Blocks `[start, end)` under checkpoint names, renumbered to start at 0.

        Floating-point tensors come in `dtype`, others as they are stored. A tensor that needed no
        cast lies on the file's pages (private: writing to it does not change the file).
        """
        if not 0 <= start < end <= self.num_blocks:
            raise ConfigError(f"{self.name} has blocks 0:{self.num_blocks}, not {start}:{end}")
        state = self._source.load_blocks(start, end, dtype)
        return {renumbered(name, start): tensor for name, tensor in state.items()}

    def stored(self, start: int, end: int, *, grids: bool = True) -> dict[str, Stored]:
        """How the file keeps the block weights that it has quantized, by `load_blocks`' names.

        4-bit weights come with their grids, which are read; without `grids` nothing is read.
        """
        stored = self._source.stored_blocks(start, end, grids=grids)
        return {renumbered(name, start): how for name, how in stored.items()}

    @property
    def whole(self) -> bool:
        """Whether all weights are here, and the fingerprint was made from their very bytes.

        Of a model on the hub only the parts in use are here, and its files' hashes are the hub's.
        """
        return self._source.whole

    def digests(self, start: int, end: int) -> tuple[bytes, ...]:
        """A digest for each of the blocks `[start, end)`, over their tensors as they are stored.

        Copies with one fingerprint have the same ones, whatever the weights become when they are
        loaded. Reads the blocks, which are then best in the system's memory already.
        """
        return tuple(self._source.digest(block)[:BLOCK_DIGEST_LEN] for block in range(start, end))

    def load_ends(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """The client's part: embeddings, final norm, head; a tied head is not there twice."""
        return self._source.load_ends(dtype)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer; made at the first call."""
        if self._tokenizer is None:
            self._tokenizer = self._source.tokenizer()
        return self._tokenizer

    def generation_config(self) -> GenerationConfig:
        """The makers' sampling settings, or what the config implies."""
        return self._source.generation_config()

    def wait(self, what: str) -> AbstractContextManager[Advance]:
        """Tells whoever is told of this model's loading about a wait that nobody can measure."""
        return wait(self._progress, 0, what)

    def close(self) -> None:
        """Give back what is held, any number of times. Loaded tensors stay valid."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
