"""The second turn of a chat: time to the first token, by the length of what was said before.

    python benchmarks/prefix.py [--model MODEL] [--peers 2] [--lengths 256,1024,4096] [--json FILE]

Starts a bootstrap and peers with one thread each on this machine. In each round a new text is
computed in one session; then two clients ask for it and a few tokens more, one that may go on from
what the peers have kept and one that may not. Both open a session for it, which is in the time.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from telling import tell

from swarm.checkpoint import open_checkpoint
from swarm.cli._processes import Processes, running
from swarm.cli.demo import demonstration_model
from swarm.cli.runner import run_async
from swarm.client import ModelOptions, RemoteModel, RowInput, Swarm
from swarm.client.config import SessionConfig
from swarm.member import JoinConfig

HOST = "127.0.0.1"
SHORT = 64
"""Positions of the text that is asked first, so that links stand and weights are warm."""


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    torch.set_num_threads(1)
    result = run_async(_measure(arguments))
    tell(result, arguments.json, partial(_show, result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="default: the demonstration model")
    parser.add_argument("--peers", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--lengths", default="256,1024,4096", help="positions of the history")
    parser.add_argument("--news", type=int, default=16, help="positions of the second turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write JSON too; - for JSON alone")
    arguments = parser.parse_args()
    arguments.model = arguments.model or str(demonstration_model())
    arguments.lengths = [int(length) for length in arguments.lengths.split(",")]
    return arguments


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with_reuse: dict[int, list[float]] = defaultdict(list)
    without: dict[int, list[float]] = defaultdict(list)
    draw = random.Random(0)
    async with _clients(arguments) as (keeper, stranger):
        for _ in range(2):
            for model in (keeper, stranger):
                await _first_token(model, _text(draw, model, SHORT), 0)
        for _ in range(arguments.rounds):
            for length in arguments.lengths:
                said = _text(draw, keeper, length)
                news = _text(draw, keeper, arguments.news)
                await _first_token(keeper, said, 0)
                with_reuse[length].append(await _first_token(keeper, said + news, length))
                without[length].append(await _first_token(stranger, said + news, 0))
    return {
        "model": Path(arguments.model).name,
        "dtype": arguments.dtype,
        "hops": arguments.peers,
        "threads_each": 1,
        "new_positions": arguments.news,
        "seconds_to_first_token": [
            {
                "history": length,
                "with": statistics.median(with_reuse[length]),
                "without": statistics.median(without[length]),
                "ratio": statistics.median(without[length]) / statistics.median(with_reuse[length]),
            }
            for length in arguments.lengths
        ],
    }


@asynccontextmanager
async def _clients(
    arguments: argparse.Namespace,
) -> AsyncIterator[tuple[RemoteModel, RemoteModel]]:
    """One who goes on from what peers keep, and one who does not."""
    options = ModelOptions(dtype=arguments.dtype)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = await stack.enter_async_context(running(folder))
        invite = await _start(processes, folder, arguments)
        models = []
        for config in (SessionConfig(), SessionConfig(unit_len=0)):
            place = JoinConfig(asks=True, host=HOST, map_port=False)
            joined = Swarm.join(invite, place, session_config=config)
            swarm = await stack.enter_async_context(joined)
            models.append(await swarm.model(arguments.model, options))
        yield models[0], models[1]


async def _start(processes: Processes, folder: Path, arguments: argparse.Namespace) -> str:
    place = ["--host", HOST, "--no-map-port", "--dir"]
    bootstrap = await processes.start("bootstrap", ["bootstrap", *place, str(folder / "bootstrap")])
    invite = await bootstrap.line()
    with open_checkpoint(arguments.model) as checkpoint:
        num_blocks = checkpoint.num_blocks
    borders = [num_blocks * n // arguments.peers for n in range(arguments.peers + 1)]
    peers = []
    for number, (start, end) in enumerate(pairwise(borders)):
        options = ["--join", invite, "--model", arguments.model, "--blocks", f"{start}:{end}"]
        options += ["--threads", "1", "--dtype", arguments.dtype, "--kv-memory", "512MB"]
        name = f"peer-{number}"
        peers.append(await processes.start(name, ["peer", *options, *place, str(folder / name)]))
    for peer in peers:
        await peer.line()
    return invite


def _text(draw: random.Random, model: RemoteModel, length: int) -> list[int]:
    return [draw.randrange(model.head.vocab_size) for _ in range(length)]


async def _first_token(model: RemoteModel, ids: list[int], at_least: int) -> float:
    """Seconds from a session's beginning to its first token.

    `at_least` positions, to a whole unit, must have been kept, else the number would mean nothing.
    """
    started = time.perf_counter()
    async with model.session() as session:
        hidden = model.head.embed(torch.tensor(ids))
        (last,) = await session.step([RowInput(0, 0, hidden, tuple(ids))])
        int(model.head.logits(last)[0].argmax())
        seconds = time.perf_counter() - started
        if session.num_recalled < at_least - SessionConfig.unit_len:
            raise RuntimeError(f"only {session.num_recalled} of {at_least} positions were kept")
    return seconds


def _show(result: dict[str, Any]) -> None:
    table = Table(
        title=f"{result['model']}, {result['dtype']}, {result['hops']} hops, one thread each:"
        f" {result['new_positions']} new positions after a history"
    )
    for column in ("history", "without reuse", "with", "ratio"):
        table.add_column(column, justify="right")
    for row in result["seconds_to_first_token"]:
        table.add_row(
            str(row["history"]),
            f"{row['without']:.3f} s",
            f"{row['with']:.3f} s",
            f"{row['ratio']:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
