"""A benchmark's result as a picture: many sessions together, and where a step's time goes."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from swarm.errors import ConfigError

if TYPE_CHECKING:
    from swarm.client.benchmark.result import Result

_SIZE = (10.0, 4.2)
_COLOURS = {"client": "#8da0cb", "compute": "#66c2a5", "queue": "#fc8d62", "wire": "#bdbdbd"}


def require() -> None:
    """Raises `ConfigError` where the library that draws is not installed."""
    if find_spec("matplotlib") is None:
        raise ConfigError("plots need matplotlib; run `pip install 'homeswarm[plot]'`")


def draw(result: Result) -> str:
    """The picture as SVG; equal results give equal pictures."""
    require()
    # The classes themselves, not pyplot: no window system is asked for, nothing global is changed.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "homeswarm", "svg.fonttype": "none", "font.size": 9.0}):
        figure: Any = Figure(figsize=_SIZE, layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(_title(result))
        _draw_sessions(left, result)
        _draw_step(right, result)
        picture = io.StringIO()
        figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()


def _title(result: Result) -> str:
    parts = [result.model, result.dtype, result.quantize, f"{len(result.hops)} hops"]
    # A dollar sign would begin a formula.
    return ", ".join(part for part in parts if part).replace("$", r"\$")


def _draw_sessions(axes: Any, result: Result) -> None:
    numbers = [each.sessions for each in result.aggregate]
    rates = [each.tokens_per_second for each in result.aggregate]
    axes.plot(numbers, rates, marker="o", color=_COLOURS["compute"], label="swarm")
    if (plain := result.reference) is not None:
        rate = plain.decode_tokens_per_second
        axes.axhline(rate, color="#666666", linestyle="--", label="transformers, one session")
    if (limit := result.bandwidth) is not None:
        axes.axhline(
            limit.limit_tokens_per_second,
            color=_COLOURS["queue"],
            linestyle=":",
            label="one session, reading the weights alone",
        )
    axes.set(xlabel="sessions side by side", ylabel="tokens per second", xticks=numbers)
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")


def _draw_step(axes: Any, result: Result) -> None:
    """One bar from left to right, in the order in which a step passes its members."""
    step, trips = result.step, len(result.hops) + 1
    parts = [("client", step.client_ms, "client")]
    for number, hop in enumerate(result.hops, 1):
        parts.append(("wire", step.wire_ms / trips, ""))
        parts.append(("queue", hop.queue_ms, ""))
        parts.append(("compute", hop.compute_ms, f"{number}"))
    parts.append(("wire", step.wire_ms / trips, ""))
    left, named = 0.0, set()
    for kind, width, text in parts:
        label = None if kind in named else kind
        named.add(kind)
        axes.barh(0, width, left=left, color=_COLOURS[kind], edgecolor="white", label=label)
        if text:
            axes.text(left + width / 2, 0, text, ha="center", va="center", clip_on=True)
        left += width
    axes.set(xlabel="milliseconds of one decode step", yticks=[], ylim=(-1, 1))
    axes.legend(loc="upper center", ncols=len(_COLOURS))
