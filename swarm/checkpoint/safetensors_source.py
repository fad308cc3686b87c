"""Weights in safetensors files, local or on the hub."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from swarm.errors import ConfigError

from .byte_ranges import merged, num_bytes
from .byte_source import ByteSource, LocalFile
from .dequantize import take_quantization
from .fingerprint import fingerprint
from .layout import make_layout
from .model_config import (
    check_counts,
    load_config,
    load_generation_config,
    load_tokenizer,
    num_blocks,
)
from .progress import Progress, wait
from .repository import Repository
from .safetensors_header import TensorEntry, read_header

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

    from swarm.forms import Stored

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PARALLEL_HEADERS = 8

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
}


class SafetensorsSource:
    """A `TensorSource` over a repository with a config and safetensors files."""

    def __init__(self, repository: Repository, progress: Progress) -> None:
        self._repository = repository
        self._progress = progress
        self._bytes_read = 0
        raw_config = _json_object(_required(repository, "config.json"))
        check_counts(raw_config, repository.name)
        full_config = load_config(repository.file("config.json").parent)
        self._dequantize = take_quantization(full_config, repository.name)
        self._config = full_config.get_text_config()
        names, index = _weight_files(repository)
        self._files = {name: repository.weights(name) for name in names}
        self._tensors = _read_headers(self._files, index)
        self._layout = make_layout(
            self._tensors,
            num_blocks(self._config, repository.name),
            nested=self._config is not full_config,
            where=repository.name,
        )
        self._fingerprint = fingerprint(
            raw_config, {name: repository.sha256(name) for name in names}
        )

    @property
    def name(self) -> str:
        """Repo id or folder name."""
        return self._repository.name

    @property
    def fingerprint(self) -> str:
        """See `TensorSource.fingerprint`."""
        return self._fingerprint

    @property
    def config(self) -> PreTrainedConfig:
        """See `TensorSource.config`."""
        return self._config

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """See `TensorSource.block_sizes`."""
        return tuple(
            sum(self._tensors[name][1].num_bytes for name in block) for block in self._layout.blocks
        )

    @property
    def bytes_read(self) -> int:
        """See `TensorSource.bytes_read`."""
        return self._bytes_read

    def load_blocks(self, start: int, end: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """See `TensorSource.load_blocks`."""
        names = [name for block in self._layout.blocks[start:end] for name in block]
        return self._load(names, dtype, f"blocks {start}:{end}")

    def stored_blocks(self, start: int, end: int, *, grids: bool) -> dict[str, Stored]:
        """Nothing: what is published in fewer bits here (fp8, mxfp4) has no such form."""
        return {}

    @property
    def whole(self) -> bool:
        """See `TensorSource.whole`. Of a repository on the hub only the parts in use are here."""
        return all(isinstance(file, LocalFile) for file in self._files.values())

    def digest(self, block: int) -> bytes:
        """See `TensorSource.digest`."""
        digest = hashlib.sha256()
        for name in sorted(self._layout.blocks[block]):
            file, entry = self._tensors[name]
            digest.update(f"{name} {entry.dtype} {entry.shape}\n".encode())
            digest.update(self._files[file].read(entry.offset, entry.num_bytes))
        return digest.digest()

    def load_ends(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """See `TensorSource.load_ends`."""
        return self._load(self._layout.ends, dtype, "embeddings and head")

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """See `TensorSource.tokenizer`."""
        return load_tokenizer(self._repository.folder(), self.name)

    def generation_config(self) -> GenerationConfig:
        """See `TensorSource.generation_config`."""
        name = "generation_config.json"
        known = name if name in self._repository.files else "config.json"
        return load_generation_config(self._repository.file(known).parent, self._config)

    def close(self) -> None:
        """Nothing is held between calls."""

    def _load(self, names: Sequence[str], dtype: torch.dtype, what: str) -> dict[str, torch.Tensor]:
        by_file: dict[str, list[str]] = defaultdict(list)
        for name in names:
            by_file[self._tensors[name][0]].append(name)
        self._download(by_file, what)
        state: dict[str, torch.Tensor] = {}
        for file, inside in by_file.items():
            runs = _Runs(self._files[file], [self._tensors[name][1] for name in inside])
            for name in inside:
                state[self._layout.text_names[name]] = runs.tensor(self._tensors[name][1])
            self._bytes_read += runs.num_bytes
        if self._dequantize is not None:
            state = self._dequantize(state, dtype)
        return {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in state.items()
        }

    def _download(self, by_file: dict[str, list[str]], what: str) -> None:
        missing = {}
        for file, names in by_file.items():
            entries = [self._tensors[name][1] for name in names]
            missing[file] = self._files[file].missing((e.offset, e.end) for e in entries)
        if total := sum(map(num_bytes, missing.values())):
            with wait(self._progress, total, f"downloading {what}") as advance:
                for file, ranges in missing.items():
                    self._files[file].fetch(ranges, advance)


class _Runs:
    """Neighbouring tensors of one file, read together and taken apart without copying."""

    def __init__(self, source: ByteSource, entries: Sequence[TensorEntry]) -> None:
        ranges = merged((entry.offset, entry.end) for entry in entries)
        self._starts = [begin for begin, _ in ranges]
        self._buffers = [source.read(begin, end - begin) for begin, end in ranges]
        self.num_bytes = num_bytes(ranges)

    def tensor(self, entry: TensorEntry) -> torch.Tensor:
        dtype = _DTYPES[entry.dtype]
        if entry.num_bytes == 0:
            return torch.empty(entry.shape, dtype=dtype)
        run = bisect_right(self._starts, entry.offset) - 1
        begin = entry.offset - self._starts[run]
        data: memoryview | bytearray = self._buffers[run][begin : begin + entry.num_bytes]
        if entry.offset % dtype.itemsize:  # old writers did not align; torch wants it
            data = bytearray(data)
        return torch.frombuffer(data, dtype=dtype).reshape(entry.shape)


def _required(repository: Repository, name: str) -> Path:
    if name not in repository.files:
        raise ConfigError(f"{repository.name}: there is no {name} in it")
    return repository.file(name)


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: is not a JSON object")
    return value


def _weight_files(repository: Repository) -> tuple[list[str], dict[str, str] | None]:
    """The safetensors files to use, and the index's `{tensor: file}` if there is an index."""
    files = repository.files
    if SINGLE in files:
        return [SINGLE], None
    if INDEX in files:
        return _indexed(repository)
    found = sorted(name for name in files if name.endswith(".safetensors") and "/" not in name)
    if len(found) == 1:
        return found, None
    if found:
        raise ConfigError(
            f"{repository.name}: it has {', '.join(found)}, but no {INDEX} that says what is where"
        )
    suffixes = {Path(name).suffix for name in files}
    if ".gguf" in suffixes:
        hint = "but .gguf files: download one and give its path"
    elif suffixes & {".bin", ".pt", ".pth"}:
        hint = "only pickled .bin files, which can run code when read: convert it to safetensors"
    else:
        hint = "nor any other weights"
    raise ConfigError(f"{repository.name}: it has no safetensors files, {hint}")


def _indexed(repository: Repository) -> tuple[list[str], dict[str, str]]:
    where = f"{repository.name}/{INDEX}"
    index = _json_object(repository.file(INDEX)).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise ConfigError(f"{where}: it has no weight_map from tensors to files")
    names = sorted(set(index.values()))
    if absent := [name for name in names if name not in repository.files]:
        raise ConfigError(f"{where}: it names {', '.join(absent)}, which is not there")
    return names, index


def _read_headers(
    files: dict[str, ByteSource], index: dict[str, str] | None
) -> dict[str, tuple[str, TensorEntry]]:
    """`{tensor: (file, entry)}` over all files; remote headers are fetched at the same time."""
    with ThreadPoolExecutor(PARALLEL_HEADERS, "headers") as pool:
        headers = dict(zip(files, pool.map(read_header, files.values()), strict=True))
    if index is None:
        return {
            tensor: (file, e) for file, header in headers.items() for tensor, e in header.items()
        }
    for tensor, file in index.items():
        if tensor not in headers[file]:
            raise ConfigError(f"{files[file].name}: tensor {tensor!r} of the index is not in it")
    return {tensor: (file, headers[file][tensor]) for tensor, file in index.items()}
