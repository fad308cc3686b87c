"""A span's blocks as a list of instructions that one call runs: decoding without an interpreter.

transformers' own code stays what defines a model, and runs every long chunk. For a few positions
its many small operations cost more than the arithmetic; `recognition` writes those blocks that it
knows by their structure down for `swarm.kernels`, and `Runner.check` compares the two.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from swarm.kernels import MAX_ROWS, TYPES, Batch, Instruction, library

from .attention import RowPlan

Rotation = Callable[[int], tuple[torch.Tensor, torch.Tensor]]
"""Cosines and sines [n, rotated], float32, of positions 0 to n."""


@dataclass
class Listing:
    """What a program is made of.

    `blocks` holds the instructions of each block, `widths` how many numbers a row takes in each
    buffer; hidden states come and go in buffer 0. `tensors` are what instructions point to.
    """

    widths: list[int]
    group: int
    rotation: Rotation
    blocks: list[list[Instruction]] = field(default_factory=list)
    tensors: list[torch.Tensor] = field(default_factory=list)


class Program:
    """Runs up to `MAX_ROWS` positions through blocks of a span. Not thread-safe."""

    def __init__(self, listing: Listing, page_len: int) -> None:
        kernels = library()
        assert kernels is not None
        self._run = kernels.run
        self._listing = listing  # keeps alive what the instructions point to
        flat = [each for block in listing.blocks for each in block]
        self._instructions = (Instruction * len(flat))(*flat)
        starts = np.cumsum([0, *(len(block) for block in listing.blocks)])
        self._starts = [int(start) for start in starts]
        self._buffers = [_floats(MAX_ROWS, width) for width in listing.widths]
        addresses = [buffer.data_ptr() for buffer in self._buffers]
        self._addresses = np.array(addresses, dtype=np.uintp)
        self._widths = np.array(listing.widths, dtype=np.int32)
        self._positions = np.zeros(MAX_ROWS, dtype=np.int32)
        self._pages = np.zeros(MAX_ROWS, dtype=np.uintp)
        self._batch = Batch(
            page_len=page_len,
            buffers=self._addresses.ctypes.data,
            widths=self._widths.ctypes.data,
            positions=self._positions.ctypes.data,
            pages=self._pages.ctypes.data,
        )
        self._reference = ctypes.byref(self._batch)
        self._known_positions = 0
        self._num_threads = 0
        self._grow(256)

    @property
    def num_blocks(self) -> int:
        """Blocks that the program covers."""
        return len(self._listing.blocks)

    def run(
        self, rows: Sequence[RowPlan], hidden: torch.Tensor, blocks: tuple[int, int]
    ) -> torch.Tensor:
        """Run `hidden` [T, hidden_size] of `rows` through `blocks`, counted from the span's start.

        T is at most `MAX_ROWS`; each row's pages hold its new positions. Returns the same shape
        and type, in memory of its own.
        """
        count = hidden.shape[0]
        alive = self._place(rows)
        stream = self._buffers[0][:count]
        stream.copy_(hidden)
        start, end = self._starts[blocks[0]], self._starts[blocks[1]]
        first = ctypes.byref(self._instructions, start * ctypes.sizeof(Instruction))
        self._batch.rows = count
        self._run(first, end - start, self._reference)
        del alive
        return stream.to(hidden.dtype, copy=True)

    def _place(self, rows: Sequence[RowPlan]) -> list[np.ndarray]:
        """Say where each row's positions lie; the result must live as long as the call."""
        alive: list[np.ndarray] = []
        for row in rows:
            pages = np.array(row.pages, dtype=np.int32)
            alive.append(pages)
            span = slice(row.offset, row.offset + row.count)
            self._positions[span] = range(row.position, row.position + row.count)
            self._pages[span] = pages.ctypes.data
        longest = max(row.position + row.count for row in rows)
        if longest > self._known_positions or self._num_threads != torch.get_num_threads():
            self._grow(longest)
        return alive

    def _grow(self, longest: int) -> None:
        """Prepare for sequences of at least `longest` positions."""
        known = max(256, self._known_positions)
        while known < longest:
            known *= 2
        cosines, sines = (table.contiguous() for table in self._listing.rotation(known))
        num_threads = torch.get_num_threads()
        scores = _floats(num_threads, self._listing.group * known)
        # Everything is there: without memory for it, what the batch points to would be gone.
        self._tables, self._scores = (cosines, sines), scores
        batch = self._batch
        batch.cosines, batch.sines = cosines.data_ptr(), sines.data_ptr()
        batch.rotated = cosines.shape[1]
        batch.scores, batch.scores_len = scores.data_ptr(), scores.shape[1]
        batch.num_threads = self._num_threads = num_threads
        self._known_positions = known


def _floats(*shape: int) -> torch.Tensor:
    """Memory for the kernels, whatever torch's default type is just now (see `few_rows`)."""
    return torch.zeros(*shape, dtype=torch.float32)


def fits(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether programs exist for this type and device on this machine."""
    return device.type == "cpu" and dtype in TYPES and library() is not None
