"""What a gateway costs per token, beside the Python client that asks the same peers the same.

    python benchmarks/gateway_overhead.py [--model MODEL] [--rounds 10] [--streams 1 8] …

Starts a bootstrap, peers and a gateway, each a process, and joins with a Python client in this one.
In each round the same prompts are answered twice, once through `RemoteModel.stream` and once as
SSE over loopback, in turns that alternate; so many streams at once. What counts is the time from
the first to the last text, by token: the gateway's client must read its stream, too. The table goes
to standard output; `--json -` writes JSON instead.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import torch
from gateway_load import SUBJECTS
from gateway_stage import HOST, Plan, Stage, ask, client, in_parts, staged
from rich.console import Console
from rich.table import Table
from telling import tell

from swarm.checkpoint import open_checkpoint
from swarm.cli.demo import demonstration_model
from swarm.cli.runner import run_async
from swarm.client import ModelOptions, RemoteModel, SamplingConfig, SpeculationConfig, Swarm
from swarm.errors import SwarmError
from swarm.member import JoinConfig


@dataclass
class Passage:
    """Streams at once, one way: seconds from the first text to the last, and tokens."""

    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    first: list[float] = field(default_factory=list)

    def note(self, asked: float, times: Sequence[float], num_tokens: int) -> None:
        """One stream has ended."""
        if num_tokens < 2 or not times:
            raise SwarmError("an answer of less than two tokens: nothing to measure")
        self.seconds.append(times[-1] - times[0])
        self.tokens.append(num_tokens - 1)
        self.first.append(times[0] - asked)

    @property
    def per_token(self) -> float:
        """Seconds from one token of a stream to the next."""
        return sum(self.seconds) / sum(self.tokens)


@dataclass
class Round:
    """The same prompts both ways."""

    direct: Passage
    gateway: Passage


class Overhead:
    """Asks both ways."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        stage: Stage,
        model: RemoteModel,
        session: aiohttp.ClientSession,
    ) -> None:
        self._arguments = arguments
        self._stage = stage
        self._model = model
        self._session = session

    async def rounds(self, num_streams: int) -> list[Round]:
        """All rounds with so many streams; the first of each way, which warms up, is left out."""
        rounds = []
        for number in range(self._arguments.rounds + 1):
            direct, gateway = Passage(), Passage()
            ways = [partial(self._direct, direct), partial(self._gateway, gateway)]
            for way in ways if number % 2 else reversed(ways):
                await self._together(way, num_streams)
            rounds.append(Round(direct, gateway))
        return rounds[1:]

    async def _together(
        self, way: Callable[[str], Coroutine[Any, Any, None]], num_streams: int
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            for subject in SUBJECTS[:num_streams]:
                tasks.create_task(way(f"Write a long story about {subject}."))

    async def _direct(self, passage: Passage, prompt: str) -> None:
        asked = time.perf_counter()
        reply = await self._model.prepare([{"role": "user", "content": prompt}])
        sampling = SamplingConfig(max_new_tokens=self._arguments.tokens)
        times = []
        guesses = SpeculationConfig.parse("off")
        async with aclosing(self._model.reply(reply, sampling, guesses)) as pieces:
            async for _ in pieces:
                times.append(time.perf_counter())
        passage.note(asked, times, len(reply.ids))

    async def _gateway(self, passage: Passage, prompt: str) -> None:
        key = next(iter(self._stage.keys.values()))
        limits = {"temperature": 0, "max_tokens": self._arguments.tokens}
        heard = await ask(self._session, self._stage.url, key, prompt, **limits)
        if heard.problem:
            raise SwarmError(f"the gateway: {heard.problem}")
        passage.note(heard.asked, heard.times, heard.num_tokens)


def _result(rounds: Mapping[int, Sequence[Round]], arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": Path(arguments.model).name,
        "tokens": arguments.tokens,
        "streams": {str(number): _row(found) for number, found in rounds.items()},
    }


def _row(rounds: Sequence[Round]) -> dict[str, float]:
    """Medians over rounds; differences are of the two ways of one round."""
    direct = [each.direct.per_token for each in rounds]
    gateway = [each.gateway.per_token for each in rounds]
    pairs = list(zip(direct, gateway, strict=True))
    return {
        "rounds": len(rounds),
        "direct_ms": statistics.median(direct) * 1e3,
        "gateway_ms": statistics.median(gateway) * 1e3,
        "overhead_us": statistics.median(b - a for a, b in pairs) * 1e6,
        "overhead_us_spread": statistics.pstdev([b - a for a, b in pairs]) * 1e6,
        "ratio": statistics.median(b / a for a, b in pairs),
        "first_direct_ms": _first([each.direct for each in rounds]),
        "first_gateway_ms": _first([each.gateway for each in rounds]),
    }


def _first(passages: Sequence[Passage]) -> float:
    return statistics.median(first for each in passages for first in each.first) * 1e3


def _show(result: Mapping[str, Any]) -> None:
    table = Table(title=f"{result['model']}, {result['tokens']} tokens; ms per token of a stream")
    columns = ("direct", "gateway", "overhead µs", "±", "ratio", "first: direct", "gateway")
    for column in ("streams", *columns):
        table.add_column(column, justify="right")
    for number, row in result["streams"].items():
        table.add_row(
            number,
            f"{row['direct_ms']:.2f}",
            f"{row['gateway_ms']:.2f}",
            f"{row['overhead_us']:.0f}",
            f"{row['overhead_us_spread']:.0f}",
            f"{row['ratio']:.3f}",
            f"{row['first_direct_ms']:.0f}",
            f"{row['first_gateway_ms']:.0f}",
        )
    Console().print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="default: the demonstration model")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--logs", metavar="DIR", help="keep logs and identities there")
    parser.add_argument("--json", metavar="FILE", help="write JSON too; - for JSON alone")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not 1 <= min(arguments.streams) <= max(arguments.streams) <= 12:
        parser.error("at least 1 round, and 1 to 12 streams")
    arguments.model = arguments.model or str(demonstration_model())
    return arguments


async def _measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    with open_checkpoint(arguments.model) as checkpoint:
        spans = in_parts(checkpoint.num_blocks, arguments.peers)
    plan = Plan(arguments.model, spans, arguments.dtype, options=("--speculate", "off"))
    place = JoinConfig(asks=True, host=HOST, map_port=False, state_folder=folder / "client")
    async with (
        staged(plan, folder) as stage,
        Swarm.join(stage.invite, place) as swarm,
        client() as session,
    ):
        model = await swarm.model(arguments.model, ModelOptions(dtype=arguments.dtype))
        overhead = Overhead(arguments, stage, model, session)
        rounds = {number: await overhead.rounds(number) for number in arguments.streams}
    return _result(rounds, arguments)


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.logs or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = run_async(_measure(arguments, folder))
    tell(result, arguments.json, partial(_show, result))


if __name__ == "__main__":
    main()
