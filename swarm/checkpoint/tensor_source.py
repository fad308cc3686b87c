"""The seam inside a `Checkpoint`: one file format of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

    from swarm.forms import Stored


class TensorSource(Protocol):
    """Weights of one model in one format, under the names of a saved transformers model."""

    @property
    def name(self) -> str:
        """What people call the model."""

    @property
    def fingerprint(self) -> str:
        """32 hex digits; equal for equal configs and weights."""

    @property
    def config(self) -> PreTrainedConfig:
        """The text model's config."""

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Bytes that each block takes in the file(s)."""

    @property
    def bytes_read(self) -> int:
        """Weight bytes that `load_*` read so far."""

    def load_blocks(self, start: int, end: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Tensors of blocks `[start, end)` under their own indices."""

    def stored_blocks(self, start: int, end: int, *, grids: bool) -> dict[str, Stored]:
        """How blocks `[start, end)` keep the weights that are quantized in the file."""

    @property
    def whole(self) -> bool:
        """Whether all weights are here, and the fingerprint was made from their very bytes."""

    def digest(self, block: int) -> bytes:
        """SHA-256 over one block's tensors as they are stored, with their names and shapes."""

    def load_ends(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Tensors that are no block's."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """A tokenizer made anew."""

    def generation_config(self) -> GenerationConfig:
        """How the model's makers would sample it."""

    def close(self) -> None:
        """Give back what is held. Loaded tensors stay valid."""
