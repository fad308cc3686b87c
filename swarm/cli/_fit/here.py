"""What this machine carries of one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from swarm.amounts import gigabytes, megabytes
from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.progress import Progress
from swarm.forms import Form
from swarm.peer.devices import choose_device, choose_dtype, free_memory
from swarm.peer.loading import needed_bytes

from .._options import shown
from . import known
from .sizes import FORMS, Sizes, sizes


@dataclass(frozen=True)
class Source:
    """The model that is asked about: its name among the well-known ones, or where it is."""

    model: str
    revision: str | None = None
    cache: Path | None = None


@dataclass(frozen=True)
class Here:
    """A device with `free` bytes, and a model's sizes in its number type."""

    model: str
    device: str
    dtype: str
    free: int
    sizes: Sizes

    @classmethod
    def look(
        cls, source: Source, device_name: str, dtype_name: str, free: int, progress: Progress
    ) -> Here:
        """Finds device and model; `free` is asked of the device where it is 0. Blocks.

        Raises `ConfigError` for a device or a model that cannot be used.
        """
        device = choose_device(device_name)
        dtype = choose_dtype(dtype_name, device)
        free = free or free_memory(device)
        if (model := known.find(source.model)) is not None and source.revision is None:
            found = sizes(model.transformers_config(), dtype)
            return cls(model.name, str(device), _name(dtype), free, found)
        with open_checkpoint(
            source.model, revision=source.revision, cache_dir=source.cache, progress=progress
        ) as checkpoint:
            stored = checkpoint.stored(0, checkpoint.num_blocks, grids=False)
            forms = (*FORMS, Form.FILE) if stored else FORMS
            blocks = {form: needed_bytes(checkpoint, dtype, form) for form in forms}
            found = sizes(checkpoint.config, dtype, blocks)
            return cls(checkpoint.name, str(device), _name(dtype), free, found)

    def as_json(self) -> dict[str, Any]:
        """For programs; sizes in bytes."""
        return {
            "model": self.model,
            "num_blocks": self.sizes.num_blocks,
            "device": self.device,
            "dtype": self.dtype,
            "free": self.free,
            "client": self.sizes.ends,
            "forms": [self._form(form) for form in self.sizes.needs],
        }

    def _form(self, form: Form) -> dict[str, Any]:
        holding = self.sizes.holding(form, self.free)
        return {
            "quantize": str(form),
            "block": self.sizes.needs[form].block_bytes,
            "blocks": holding.blocks,
            "machines": holding.machines(self.sizes.num_blocks),
            "positions": holding.positions,
        }

    def show(self, console: Console) -> None:
        """For people."""
        console.print(
            f"{shown(self.model)}: {self.sizes.num_blocks} blocks. This machine: {self.device},"
            f" {self.dtype}, {gigabytes(self.free)} to be had.",
            highlight=False,
            soft_wrap=True,
        )
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("--quantize", "a block", "blocks here", "such machines", "KV positions"):
            table.add_column(title, justify="left" if title == "--quantize" else "right")
        for form in self.sizes.needs:
            row = self._form(form)
            whole = " (all)" if row["blocks"] == self.sizes.num_blocks else ""
            table.add_row(
                str(form),
                f"{row['block'] / 1e6:,.1f} MB",
                f"{row['blocks']}{whole}",
                str(row["machines"] or "–"),
                f"{row['positions']:,}" if row["blocks"] else "–",
            )
        console.print(table)
        console.print(
            f"Whoever asks keeps embeddings and head: {megabytes(self.sizes.ends)}, blocks or not.",
            highlight=False,
            soft_wrap=True,
        )
        if not any(self._form(form)["blocks"] for form in self.sizes.needs):
            console.print(
                "Not one block fits. Free some memory, or choose a smaller model.", style="yellow"
            )


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
