"""Weights in one local GGUF file, dequantized as they are loaded."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import torch

from swarm.errors import ConfigError
from swarm.forms import Stored
from swarm.quoting import quoted

from .byte_source import LocalFile
from .fingerprint import file_fingerprint, file_sha256
from .gguf_grids import bits_per_number, has_grid, read_grid
from .gguf_header import GgufTensor, read_gguf_header
from .gguf_names import GgufNames
from .kept_tokenizer import KeptTokenizer
from .layout import block_index
from .model_config import check_counts, load_config, load_tokenizer, num_blocks
from .progress import Advance, Progress, wait

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

_BLOCK = re.compile(r"blk\.(\d+)\.")
_NUMPY = {
    gguf.GGMLQuantizationType.F16: np.float16,
    gguf.GGMLQuantizationType.F32: np.float32,
    gguf.GGMLQuantizationType.F64: np.float64,
}


class GgufSource:
    """A `TensorSource` over a GGUF file."""

    def __init__(self, path: Path, cache_dir: Path, progress: Progress) -> None:
        self._path = path
        self._cache_dir = cache_dir
        self._progress = progress
        self._bytes_read = 0
        self._file = LocalFile(path)
        header = read_gguf_header(path)
        parts = header.fields.get("split.count", 1)
        if isinstance(parts, int) and parts > 1:
            raise ConfigError(f"{path}: one of {parts} parts; join them (llama-gguf-split --merge)")
        architecture = header.fields.get("general.architecture")
        if not isinstance(architecture, str):
            raise ConfigError(f"{path}: it does not say its architecture")
        self._architecture = architecture
        self._tensors = header.tensors
        check_counts(header.fields, str(path))
        self._config = _config(header.outline, path)
        self._blocks, self._ends = self._parts()
        self._fingerprint = file_fingerprint(file_sha256(path, cache_dir / "hashes", progress))

    def _parts(self) -> tuple[list[list[str]], list[str]]:
        blocks: list[list[str]] = [[] for _ in range(num_blocks(self._config, self.name))]
        ends: list[str] = []
        for name in self._tensors:
            if (match := _BLOCK.match(name)) is None:
                ends.append(name)
            elif (index := int(match[1])) < len(blocks):
                blocks[index].append(name)
        if empty := [index for index, block in enumerate(blocks) if not block]:
            raise ConfigError(f"{self._path}: it has no tensors of blocks {empty}")
        return blocks, ends

    @property
    def name(self) -> str:
        """The file's name."""
        return self._path.name

    @property
    def fingerprint(self) -> str:
        """See `TensorSource.fingerprint`: of the file's bytes alone, the config is among them."""
        return self._fingerprint

    @property
    def config(self) -> PreTrainedConfig:
        """See `TensorSource.config`."""
        return self._config

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Bytes of each block as quantized in the file."""
        return tuple(sum(self._tensors[name].num_bytes for name in block) for block in self._blocks)

    @property
    def bytes_read(self) -> int:
        """Bytes read, as quantized."""
        return self._bytes_read

    @cached_property
    def _names(self) -> GgufNames:
        return GgufNames(self._architecture, self._config, str(self._path))

    def load_blocks(self, start: int, end: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """See `TensorSource.load_blocks`."""
        state: dict[str, torch.Tensor] = {}
        wanted = [name for block in self._blocks[start:end] for name in block]
        total = sum(self._tensors[name].num_bytes for name in wanted)
        with wait(self._progress, total, f"reading blocks {start}:{end}") as advance:
            for block in self._blocks[start:end]:
                for name, tensor in self._load(block, advance).items():
                    state[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        self._check_complete(state, lambda block: block is not None and start <= block < end)
        return state

    def stored_blocks(self, start: int, end: int, *, grids: bool) -> dict[str, Stored]:
        """See `TensorSource.stored_blocks`. Weights that are put together from several are not."""
        found: dict[str, Stored] = {}
        for name in (name for block in self._blocks[start:end] for name in block):
            tensor = self._tensors[name]
            bits = bits_per_number(tensor.kind)
            if bits is None or len(tensor.shape) != 2 or not self._names.uses(name):
                continue
            if (place := self._names.rows(name, tensor.shape[0])) is None:
                continue
            key, order = place
            grid = None
            if grids and has_grid(tensor.kind):
                grid = read_grid(tensor, self._file.read(tensor.offset, tensor.num_bytes))
                grid = grid.rows(order)
            found[key] = Stored(bits, grid)
        return found

    @property
    def whole(self) -> bool:
        """See `TensorSource.whole`: the file was hashed when it was opened."""
        return True

    def digest(self, block: int) -> bytes:
        """See `TensorSource.digest`."""
        digest = hashlib.sha256()
        for name in sorted(self._blocks[block]):
            tensor = self._tensors[name]
            digest.update(f"{name} {tensor.kind.name} {tensor.shape}\n".encode())
            digest.update(self._file.read(tensor.offset, tensor.num_bytes))
        return digest.digest()

    def load_ends(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """See `TensorSource.load_ends`."""
        total = sum(self._tensors[name].num_bytes for name in self._ends)
        with wait(self._progress, total, "reading embeddings and head") as advance:
            state = self._load(self._ends, advance)
        self._check_complete(state, lambda block: block is None)
        return {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in state.items()
        }

    def _load(self, names: Sequence[str], advance: Advance) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = {}
        for name in names:
            tensor = self._tensors[name]
            if self._names.uses(name):
                self._names.convert(name, self._dequantized(tensor), state)
                self._bytes_read += tensor.num_bytes
            advance(tensor.num_bytes)
        return state

    def _dequantized(self, tensor: GgufTensor) -> np.ndarray[Any, Any]:
        try:
            return dequantized(tensor, self._file.read(tensor.offset, tensor.num_bytes))
        except ConfigError as error:
            raise ConfigError(f"{self._path}: {error}") from error

    def _check_complete(
        self, state: dict[str, torch.Tensor], wanted: Callable[[int | None], bool]
    ) -> None:
        shapes = {n: shape for n, shape in self._names.needed.items() if wanted(block_index(n))}
        for name in sorted(shapes.keys() & state.keys()):
            if state[name].shape != shapes[name]:
                raise ConfigError(
                    f"{self._path}: {name} is {tuple(state[name].shape)} in the file, "
                    f"but {tuple(shapes[name])} by the config that transformers derives from it"
                )
        if missing := sorted(shapes.keys() - state.keys()):
            raise ConfigError(
                f"{self._path}: architecture {self._architecture!r} cannot be read from GGUF by "
                f"this version of transformers: nothing for {missing[0]} "
                f"({len(missing)} tensors in all); use the model's safetensors"
            )

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """See `TensorSource.tokenizer`. transformers takes seconds to parse the vocabulary."""
        path = self._path.resolve()
        kept = KeptTokenizer(self._cache_dir / "tokenizers", self._fingerprint, self.name)
        with wait(self._progress, 0, "reading the vocabulary"):
            return kept.load(lambda: load_tokenizer(path.parent, self.name, gguf_file=path.name))

    def generation_config(self) -> GenerationConfig:
        """What the config implies; a GGUF file has nothing else."""
        from transformers import GenerationConfig

        return GenerationConfig.from_model_config(self._config)

    def close(self) -> None:
        """Nothing is held between calls."""


def dequantized(tensor: GgufTensor, stored: bytes | memoryview) -> np.ndarray[Any, Any]:
    """A tensor's numbers in float32 from its bytes; raises `ConfigError` for unknown kinds."""
    raw = np.frombuffer(stored, np.uint8)
    plain = _NUMPY.get(tensor.kind)
    try:
        if plain is not None:
            return raw.view(plain).reshape(tensor.shape).astype(np.float32, copy=False)
        if not tensor.shape:
            raise ValueError("a single number cannot be stored in blocks")
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, tensor.kind)
        values: np.ndarray[Any, Any] = gguf.dequantize(raw.reshape(shape), tensor.kind)
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"tensor {quoted(tensor.name)}: {error}") from error
    return values


def _config(outline: bytes, path: Path) -> PreTrainedConfig:
    """Let transformers make the config, from a file without the vocabulary: seconds become none."""
    with tempfile.TemporaryDirectory(prefix="homeswarm-") as folder:
        (Path(folder) / "outline.gguf").write_bytes(outline)
        try:
            config = load_config(Path(folder), gguf_file="outline.gguf").get_text_config()
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.__cause__}") from error
    config.name_or_path = str(path)
    return config
