"""A model and its peers as a table, with as many columns as the terminal has room for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from swarm.directory import Announcement, State
from swarm.forms import Form
from swarm.overview import Holder, ServedModel
from swarm.transport.reach import Reach

from ._options import plain
from ._times import clock

_BAR_LEN = 24
_NAME_LEN = 24
_SHORT_NAME_LEN = 12
_NARROW = 80
"""Cells below which names are short."""
_PADDING = 3
"""Cells that a column takes besides its content."""

_STATES = {State.LOADING: "cyan", State.LEAVING: "yellow", State.PAUSED: "magenta"}
_GONE = "dim strike"


@dataclass(frozen=True)
class _Column:
    """What a peer's cell holds; columns of a higher `rank` go first where there is no room."""

    title: str
    cell: Callable[[Announcement], str]
    rank: int = 0
    right: bool = False


def parts(
    model: ServedModel,
    width: int,
    marks: Mapping[str, str] | None = None,
    gone: Sequence[Announcement] = (),
) -> list[RenderableType]:
    """A model for people: its gaps and its table.

    `marks` are styles of rows that shall be seen, by peer; `gone` are peers that were there.
    """
    told: list[RenderableType] = [_table(model, width, marks or {}, gone)]
    told += [Text(line, "red") for holder in model.holders if (line := _reported(holder))]
    if model.complete:
        told.append(Text("Every block is served.", "green"))
        return told
    missing = ", ".join(f"{start}:{end}" for start, end in model.missing)
    told.append(Text(f"Missing blocks {missing}", "red"))
    for gap in model.gaps:
        coming = f"  (on their way: {len(gap.coming)})" if gap.coming else ""
        told.append(Text(f"  {gap.command}{coming}", "dim"))
    return told


def summed(entries: Sequence[Announcement]) -> str:
    """How many peers serve, and the power that all draw, for which a table may have no room."""
    serving, watts = sum(entry.serving for entry in entries), sum(e.watts for e in entries)
    told = f"{serving} peer{'s' * (serving != 1)} serving"
    if not watts:
        return told
    about = "~" if any(map(_about, (entry for entry in entries if entry.watts))) else ""
    return f"{told}, {about}{watts:.0f} W"


def _reported(holder: Holder) -> str:
    """That members have reported a peer for wrong work. They may be wrong, or lie themselves."""
    if not (number := holder.num_reporters):
        return ""
    members = f"{number} member{'s' * (number > 1)}"
    return f"{_name(holder.entry)} is reported for wrong results by {members}"


def _table(
    model: ServedModel, width: int, marks: Mapping[str, str], gone: Sequence[Announcement]
) -> Table:
    title = f"{_bare(model.name)}  ({model.num_blocks} blocks, {_bare(model.fingerprint[:8])})"
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    entries = (*model.entries, *gone)
    who = _Column("peer", _short_name if width < _NARROW else _name)
    columns = [column for column in (who, *_COLUMNS) if any(map(column.cell, entries))]
    columns = _fitting(columns, entries, width)
    for column in columns:
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=True, min_width=4
        )
    for entry in entries:
        style = _GONE if entry in gone else marks.get(entry.peer, _STATES.get(entry.state, ""))
        cells = ["gone" if c.title == "state" and entry in gone else c.cell(entry) for c in columns]
        table.add_row(*map(Text, cells), style=style)
    return table


def _fitting(
    columns: Sequence[_Column], entries: Sequence[Announcement], width: int
) -> list[_Column]:
    """The columns that there is room for, in their order; those of rank 0 always."""
    room = {
        column: max(cell_len(text) for text in (column.title, *map(column.cell, entries)))
        for column in columns
    }
    kept = list(columns)
    for column in sorted(columns, key=lambda column: -column.rank):
        if sum(room[each] + _PADDING for each in kept) < width or not column.rank:
            break
        kept.remove(column)
    return kept


def _name(entry: Announcement, length: int = _NAME_LEN) -> str:
    name = _bare(entry.name or "?")
    short = name if len(name) <= length else f"{name[: length - 1]}…"
    return f"{short} …{_bare(entry.peer[-6:])}"


def _short_name(entry: Announcement) -> str:
    return _name(entry, _SHORT_NAME_LEN)


def _state(entry: Announcement) -> str:
    if entry.state is not State.PAUSED or not entry.resumes:
        return str(entry.state)
    return f"paused, back {clock(entry.resumes, time.time())}"


def _blocks(entry: Announcement) -> str:
    return f"{entry.start}:{entry.end}" if entry.start < entry.end else ""


def _where(entry: Announcement) -> str:
    """Where the span lies in the model; a peer that does not serve yet is drawn lightly."""
    width = min(_BAR_LEN, max(1, entry.num_blocks))
    if entry.start >= entry.end:
        return "·" * width
    left = entry.start * width // entry.num_blocks
    right = max(left + 1, math.ceil(entry.end * width / entry.num_blocks))
    mark = "█" if entry.state is State.SERVING else "░"
    return "·" * left + mark * (right - left) + "·" * (width - right)


def _free(entry: Announcement) -> str:
    total = entry.total_positions
    return f"{100 * entry.free_positions // total} %" if total else ""


def _memory(entry: Announcement) -> str:
    if not entry.used_bytes:
        return ""
    whole = f" of {entry.memory_bytes / 1e9:.1f}" if entry.memory_bytes else ""
    return f"{entry.used_bytes / 1e9:.1f}{whole} GB"


def _power(entry: Announcement) -> str:
    return f"{_about(entry)}{entry.watts:.0f} W" if entry.watts else ""


def _energy(entry: Announcement) -> str:
    return f"{_about(entry)}{entry.joules:.2g} J" if entry.joules else ""


def _about(entry: Announcement) -> str:
    """Marks what its machine did not measure."""
    return "~" if entry.energy == "estimate" else ""


def _computes_on(entry: Announcement) -> str:
    """The device and the numbers there, with the form of the weights where they are quantized."""
    quantized = "" if entry.quantize == Form.NONE else f" {entry.quantize}"
    return _bare(f"{entry.device} {entry.dtype}{quantized}".strip())


def _reach(entry: Announcement) -> str:
    return "?" if entry.reach is Reach.UNKNOWN else str(entry.reach)


def _bare(text: str) -> str:
    """Words of others: one line, without anything that a terminal obeys."""
    return " ".join(plain(text).split("\n"))


_COLUMNS = (
    _Column("state", _state),
    _Column("blocks", _blocks),
    _Column("where", _where, rank=7),
    _Column(
        "ms/token",
        lambda e: f"{e.decode_seconds * 1e3:.1f}" if e.decode_seconds else "",
        right=True,
    ),
    _Column(
        "prefill tok/s",
        lambda e: f"{1 / e.prefill_seconds:.0f}" if e.prefill_seconds else "",
        rank=9,
        right=True,
    ),
    _Column("answers", lambda e: f"{e.num_sessions}" if e.serving else "", rank=2, right=True),
    _Column("free KV", _free, rank=3, right=True),
    _Column("memory", _memory, rank=6, right=True),
    _Column("power", _power, rank=4, right=True),
    _Column("per token", _energy, rank=5, right=True),
    _Column("on", _computes_on, rank=8),
    _Column("reached", _reach, rank=1),
)
