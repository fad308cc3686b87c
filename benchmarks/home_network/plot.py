"""What was reached at each round trip, and what could have been, as curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .limit import Reached, Row, by_rate

_REPRODUCIBLE = {"svg.hashsalt": "homeswarm", "svg.fonttype": "none"}
"""The same numbers give the same file, whose text stays text."""


def draw(rows: Sequence[Row], model: str, path: Path) -> None:
    """Tokens per second over round trips, a curve per uplink: decode, then each prompt length."""
    lengths = list(rows[0].prompts)
    with rc_context(_REPRODUCIBLE):
        figure = Figure(figsize=(4.2 * (1 + len(lengths)), 3.6), layout="constrained")
        axes = figure.subplots(1, 1 + len(lengths), squeeze=False)[0]
        for number, axis in enumerate(axes):
            length = lengths[number - 1] if number else 1
            axis.set_title(f"prompt of {length}" if number else "decode")
            for rate, series in by_rate(rows).items():
                reached = [row.prompts[length] if number else row.decode for row in series]
                trips = [row.setting.rtt for row in series]
                _curve(axis, f"{rate:g} Mbit/s", trips, reached, length)
            axis.set(xlabel="round trip, ms", ylim=(0, None))
            axis.grid(alpha=0.3)
        axes[0].set_ylabel("tokens per second (dotted: limit)")
        axes[0].legend(title="uplink")
        figure.suptitle(model)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _curve(
    axis: Axes, label: str, trips: Sequence[float], reached: Sequence[Reached], num_tokens: int
) -> None:
    (line,) = axis.plot(trips, [num_tokens / each.seconds for each in reached], "o-", label=label)
    axis.plot(trips, [num_tokens / each.limit for each in reached], ":", color=line.get_color())
