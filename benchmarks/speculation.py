"""What guessing ahead gains, by the kind of text and the round trip between members.

    python benchmarks/speculation.py [--model MODEL] [--peers 3] [--round-trips 0 20 50 100]

Peers with one thread each run in this process and compute for real; only the network between them
is the in-memory twin, which delays every frame by half a round trip. Each text is written without
and with guesses, in turns. Without guesses every token takes the same time, so that fewer will do.
In float32 both texts are the same; in bfloat16 a window rounds differently from single rows, and
they may part where two tokens are about equally likely.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from speculation_texts import Text, chosen
from writing import write

from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.cli.demo import demonstration_model
from swarm.cli.runner import run_async
from swarm.client import ModelOptions, RemoteModel, SpeculationConfig, Swarm
from swarm.client.head import Head
from swarm.client.speculation.draft_model import DraftModel
from swarm.directory.memory import MemoryDirectory, Registry
from swarm.errors import ConfigError
from swarm.member import Member
from swarm.membership.founder import Founder
from swarm.peer.config import PeerConfig
from swarm.peer.service import serving
from swarm.transport.memory import Condition, Network


@dataclass
class Result:
    """One text at one round trip (in seconds); speeds in tokens per second."""

    text: str
    round_trip: float
    off: list[float] = field(default_factory=list)
    on: list[float] = field(default_factory=list)
    num_tokens: int = 0
    num_steps: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    parts_at: int | None = None
    """The first token that was not the same with guesses as without."""

    @property
    def ratio(self) -> float:
        """How many times as fast it is with guesses: the median over rounds."""
        return statistics.median(on / off for on, off in zip(self.on, self.off, strict=True))


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    torch.set_num_threads(1)
    results = run_async(_measure(arguments))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps([vars(each) for each in results], indent=2))
    _show(results, arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="default: the demonstration model")
    parser.add_argument("--draft", default=None, help="a small model that guesses as well")
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--round-trips", type=float, nargs="+", default=[0, 20, 50, 100])
    parser.add_argument("--texts", nargs="+", default=[], help="names to begin with; default: all")
    parser.add_argument("--tokens", type=int, default=160, help="written with guesses")
    parser.add_argument("--plain-tokens", type=int, default=48, help="written without")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write JSON too")
    arguments = parser.parse_args()
    try:
        arguments.texts = chosen(arguments.texts or [""])
    except ConfigError as error:
        parser.error(str(error))
    arguments.model = arguments.model or str(demonstration_model())
    return arguments


async def _measure(arguments: argparse.Namespace) -> list[Result]:
    network, results = Network(), []
    with open_checkpoint(arguments.model) as checkpoint:
        async with _swarm(network, checkpoint, arguments) as model:
            await write(
                model, arguments.texts[0], arguments.plain_tokens, SpeculationConfig(0)
            )  # warms up
            for milliseconds in arguments.round_trips:
                network.default = Condition(milliseconds / 2000)
                for text in arguments.texts:
                    result = Result(text.name, milliseconds / 1000)
                    for _ in range(arguments.rounds):
                        await _round(model, text, arguments, result)
                    results.append(result)
    return results


@asynccontextmanager
async def _swarm(
    network: Network, checkpoint: Checkpoint, arguments: argparse.Namespace
) -> AsyncIterator[RemoteModel]:
    registry = Registry()
    founder = Founder(network.signer("group"), network.signer("authority"))
    borders = [checkpoint.num_blocks * n // arguments.peers for n in range(arguments.peers + 1)]
    async with AsyncExitStack() as stack:

        def member(name: str) -> Member:
            transport = network.transport(name)
            stack.push_async_callback(transport.aclose)
            membership = founder.admit(transport.signer)
            return Member(transport, MemoryDirectory(registry, name), membership)

        for number, blocks in enumerate(pairwise(borders)):
            config = PeerConfig(
                name=f"peer-{number}",
                blocks=blocks,
                device="cpu",
                dtype=arguments.dtype,
                threads=1,
                kv_memory=256 << 20,
            )
            await stack.enter_async_context(serving(member(config.name), checkpoint, config))
        swarm = await stack.enter_async_context(Swarm.over(member("client")))
        head, draft = await asyncio.to_thread(_load, checkpoint, arguments)
        yield swarm.remote(checkpoint, head, draft)


def _load(checkpoint: Checkpoint, arguments: argparse.Namespace) -> tuple[Head, DraftModel | None]:
    dtype = ModelOptions(dtype=arguments.dtype).torch_dtype
    head = Head.load(checkpoint, dtype)
    if arguments.draft is None:
        return head, None
    with open_checkpoint(arguments.draft) as small:
        return head, DraftModel.load(small, checkpoint, dtype)


async def _round(
    model: RemoteModel, text: Text, arguments: argparse.Namespace, result: Result
) -> None:
    off = await write(model, text, arguments.plain_tokens, SpeculationConfig(0))
    on = await write(model, text, arguments.tokens, SpeculationConfig())
    result.off.append(off.tokens_per_second)
    result.on.append(on.tokens_per_second)
    pairs = enumerate(zip(on.ids, off.ids, strict=False))
    result.parts_at = next((at for at, (one, other) in pairs if one != other), result.parts_at)
    result.num_tokens, result.num_steps = len(on.ids), on.num_steps
    result.num_drafted, result.num_accepted = on.num_drafted, on.num_accepted


def _show(results: list[Result], arguments: argparse.Namespace) -> None:
    table = Table(
        title=f"{Path(arguments.model).name}, {arguments.dtype}, {arguments.peers} peers in memory"
    )
    for column in ("round trip", "what"):
        table.add_column(column, no_wrap=True)
    for column in ("tokens", "off /s", "on /s", "ratio", "range", "true guesses", "steps", "text"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in results:
        ratios = sorted(on / off for on, off in zip(each.on, each.off, strict=True))
        table.add_row(
            f"{each.round_trip * 1e3:.0f} ms",
            each.text,
            str(each.num_tokens),
            f"{statistics.median(each.off):.1f}",
            f"{statistics.median(each.on):.1f}",
            f"{each.ratio:.2f}",
            f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
            f"{each.num_accepted} of {each.num_drafted}",
            str(each.num_steps),
            "same" if each.parts_at is None else f"parts at {each.parts_at}",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
