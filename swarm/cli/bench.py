"""`swarm bench`: how fast a swarm is, and where the time goes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarm.forms import Form

from . import _options
from ._options import CacheOption, RevisionOption
from .demo import demonstration_model
from .runner import run_async

if TYPE_CHECKING:
    from swarm.client.benchmark.result import Result


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="bench")(bench)


def bench(
    join: Annotated[
        str | None,
        typer.Option(
            metavar="INVITE", help="Measure this group's swarm; otherwise one is started here."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="By default SmolLM2-135M-Instruct.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Random weights instead, in the shape of a model: llama-3.2-1b …"
        ),
    ] = None,
    peers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Peers to start here; 3 by default.")
    ] = None,
    quantize: Annotated[
        Form | None, typer.Option(help="How those peers keep their weights; none by default.")
    ] = None,
    kv_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="For sessions, of each of them; 512MB by default."),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Compute threads of each of them, and of this process.")
    ] = 1,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    prompt: Annotated[int, typer.Option(min=1, help="Positions of each prompt.")] = 512,
    tokens: Annotated[int, typer.Option(min=1, help="Decode steps per repetition.")] = 48,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions; medians are shown.")] = 5,
    sessions: Annotated[
        str, typer.Option(metavar="N,…", help="How many sessions decode side by side, in turns.")
    ] = "1,2,4,8,16",
    reference: Annotated[
        bool, typer.Option("--reference", help="Measure plain transformers too, in turns.")
    ] = False,
    as_json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write JSON too; - for JSON alone."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw a plot; needs matplotlib.")
    ] = None,
    revision: RevisionOption = None,
    cache: CacheOption = None,
) -> None:
    """Measure a swarm: decode, first token, prompts, many sessions, and where the time goes.

    Without --join it starts one on this machine, as `swarm demo` does. Whatever else these machines
    do meanwhile shows in the numbers.
    """
    if plot is not None:
        from ._bench_plot import require

        require()
    from swarm.client import ModelOptions
    from swarm.client.benchmark.plan import Plan
    from swarm.invite import Invite

    if join is not None and (given := _only_local(peers, quantize, kv_memory)):
        raise typer.BadParameter(f"{given} is for peers that are started here, not with --join")
    if shape is not None and (model is not None or revision is not None):
        raise typer.BadParameter("a shape has random weights: give no --model and no --revision")
    plan = Plan(prompt, tokens, rounds, _numbers(sessions))
    from ._bench_progress import telling
    from ._bench_run import Bench, LocalPeers, Source
    from ._progress import progress

    chosen = shape or (_options.existing_model(model) if model else str(demonstration_model()))
    options = ModelOptions(revision, dtype, cache, progress())
    _ = options.torch_dtype  # Refused here rather than by each peer.
    invite = None if join is None else Invite.decode(join)
    source = Source(chosen, options, threads, is_shape=shape is not None)
    form = None if quantize is Form.NONE else quantize
    started = LocalPeers(peers or 3, kv_memory or "512MB", form)
    with telling() as say:
        run = Bench(source, plan, say, beside_plain=reference)
        result = run_async(run.started(started) if invite is None else run.joined(invite))
    _show(result, as_json, plot)


def _only_local(peers: int | None, quantize: Form | None, kv_memory: str | None) -> str:
    given: dict[str, Any] = {"--peers": peers, "--quantize": quantize, "--kv-memory": kv_memory}
    return ", ".join(name for name, value in given.items() if value is not None)


def _numbers(text: str) -> tuple[int, ...]:
    """Reads `1,2,4`; raises `typer.BadParameter` on anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise typer.BadParameter(f"{text!r}: sessions are given as 1,2,4")
    return tuple(sorted({int(part) for part in parts}))


def _show(result: Result, as_json: str | None, plot: Path | None) -> None:
    from ._bench_table import show, to_json

    if as_json == "-":
        sys.stdout.write(to_json(result))
    else:
        show(result)
    if as_json not in (None, "-"):
        _write(Path(as_json), to_json(result))
    if plot is not None:
        from ._bench_plot import draw

        _write(plot, draw(result))


def _write(path: Path, text: str) -> None:
    from swarm.errors import ConfigError

    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
