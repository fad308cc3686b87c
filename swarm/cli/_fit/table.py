"""What well-known machines carry of well-known models: on a terminal, as JSON, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as RichTable

from swarm.forms import Form
from swarm.peer.capacity import KV_SHARE, WEIGHTS_SHARE, Holding

from . import known
from .known import Machine, Model
from .sizes import FORMS, Sizes, sizes

_DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Row:
    """One model."""

    model: Model
    sizes: Sizes

    def holdings(self, form: Form, machines: Sequence[Machine]) -> list[Holding]:
        """What each machine carries of it in a form."""
        return [self.sizes.holding(form, machine.free) for machine in machines]

    def cells(self, form: Form, machines: Sequence[Machine]) -> list[str]:
        """The same in words: `13 ×7` is 13 blocks, and seven such machines for the whole."""
        return [self._cell(holding) for holding in self.holdings(form, machines)]

    def _cell(self, holding: Holding) -> str:
        if not holding.blocks:
            return "–"
        if holding.blocks == self.sizes.num_blocks:
            return "all"
        return f"{holding.blocks} ×{holding.machines(self.sizes.num_blocks)}"


@dataclass(frozen=True)
class FitTable:
    """All of them, in bfloat16 and its quantized forms."""

    rows: tuple[Row, ...]
    machines: tuple[Machine, ...]

    @classmethod
    def compute(cls) -> FitTable:
        """Builds every model without weights: some seconds."""
        rows = (Row(model, sizes(model.transformers_config(), _DTYPE)) for model in known.models())
        return cls(tuple(rows), known.machines())

    def as_json(self) -> dict[str, Any]:
        """For programs; sizes in bytes."""
        return {
            "dtype": "bfloat16",
            "machines": [
                {"name": each.title, "kind": each.kind, "free": each.free} for each in self.machines
            ],
            "models": [self._model(row) for row in self.rows],
        }

    def _model(self, row: Row) -> dict[str, Any]:
        return {
            "name": row.model.name,
            "num_blocks": row.sizes.num_blocks,
            "client": row.sizes.ends,
            "position": row.sizes.position_bytes,
            "forms": {
                str(form): {
                    "block": row.sizes.needs[form].block_bytes,
                    "blocks": [each.blocks for each in row.holdings(form, self.machines)],
                    "positions": [each.positions for each in row.holdings(form, self.machines)],
                }
                for form in FORMS
            },
        }

    def show(self, console: Console) -> None:
        """For people: one table for each form."""
        for form in FORMS:
            table = RichTable(title=_title(form), title_justify="left", box=None, pad_edge=False)
            table.add_column("model", no_wrap=True)
            for machine in self.machines:
                table.add_column(f"{machine.name}\n{machine.gib} GB", justify="right")
            for row in self.rows:
                table.add_row(row.model.name, *row.cells(form, self.machines))
            console.print(table)
            console.print()
        console.print("13 ×7: holds 13 blocks, seven such machines hold the model.")

    def markdown(self) -> str:
        """The page `docs/hardware.md`."""
        page = resources.files(__package__).joinpath("page.md").read_text(encoding="utf-8")
        return page.format(
            weights_share=f"{WEIGHTS_SHARE:.0%}".replace("%", " %"),
            kv_share=f"{KV_SHARE:.0%}".replace("%", " %"),
            machines=_markdown(
                ["machine", "memory", "counted as free"],
                [
                    [each.name, f"{each.gib} GiB", f"{each.free / (1 << 30):.1f} GiB"]
                    for each in self.machines
                ],
            ),
            models=_markdown(
                [
                    *("model", "blocks", "published in", "a block, MB"),
                    *("int8", "int4", "KV per position, KB", "client, GB"),
                ],
                [_model_cells(row) for row in self.rows],
            ),
            **{str(form): self._grid(form) for form in FORMS},
        )

    def _grid(self, form: Form) -> str:
        head = ["model", *(machine.title for machine in self.machines)]
        return _markdown(
            head, [[row.model.name, *row.cells(form, self.machines)] for row in self.rows]
        )


def _model_cells(row: Row) -> list[str]:
    blocks = [f"{row.sizes.needs[form].block_bytes / 1e6:,.0f}" for form in FORMS]
    return [
        row.model.name,
        str(row.sizes.num_blocks),
        row.model.published,
        *blocks,
        f"{row.sizes.position_bytes / 1e3:,.0f}",
        f"{row.sizes.ends / 1e9:.1f}",
    ]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _title(form: Form) -> str:
    return "bfloat16 (no --quantize)" if form is Form.NONE else f"--quantize {form}"
