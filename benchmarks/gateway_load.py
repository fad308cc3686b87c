"""Many streaming clients at a gateway, while peers are killed and come back.

    python benchmarks/gateway_load.py [--minutes 5] [--every 30] [--clients 8 8 8 8] …

Starts a bootstrap, three peers and a gateway, each a process. `--clients` are so many of each key.
Every client streams one answer after the other. Every so many seconds a peer is killed with
SIGKILL, one after the other, and started again. The peers overlap, so that any one can be lost;
with `--parts` each has a part of its own, and answers wait until it is back. What is asked is
greedy, and every text is compared with the undisturbed one; where its two best tokens are nearer
than sums in another order are exact, the rest counts as a tie, not as wrong.

Tells broken streams and wrong texts (both must be 0), shares of clients and keys, speeds, gaps,
memory over time, and what is left when all is over. `--json -` writes JSON instead of a table. Ends
with code 1 where something broke.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from gateway_stage import Heard, Plan, Stage, ask, client, in_parts, overlapping, staged
from losses import Kind
from rich.console import Console
from rich.table import Table
from telling import tell

from swarm.background import background
from swarm.checkpoint import open_checkpoint
from swarm.cli.demo import demonstration_model
from swarm.cli.runner import run_async
from swarm.errors import SwarmError

SUBJECTS = (
    "a lighthouse", "two rivers", "an old tram", "the moon", "a bakery", "a chess game",
    "the first snow", "a lost key", "an orchard", "a night train", "a violin", "the harbour",
)  # fmt: skip
CLOSE = 2e-3
"""Where the two best tokens are nearer than this (as logprobs), another order may swap them."""

SAMPLE = 5.0
SETTLE = 15.0
REFUSED_PAUSE = 0.5
LEFT = ("sessions", "openings", "leased_pages", "used_pages", "waiting", "queued_steps")
LEFT_AT_GATEWAY = ("requests", "waiting", "places")


@dataclass
class Undisturbed:
    """What the model says to a prompt, and where each token that was a close call begins."""

    text: str
    close: list[int]


@dataclass
class Tally:
    """What one client has seen."""

    key: str
    num_tokens: int = 0
    num_answers: int = 0
    num_refused: int = 0
    num_ties: int = 0
    broken: list[str] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


class Load:
    """The whole run."""

    def __init__(self, arguments: argparse.Namespace, stage: Stage) -> None:
        self._arguments = arguments
        self._stage = stage
        self._console = Console(stderr=True, highlight=False)
        self._undisturbed: dict[str, Undisturbed] = {}
        self._memory: dict[str, list[tuple[float, int]]] = {}
        self.num_kills = 0
        self.seconds = 0.0
        keys = [key for key, n in zip(stage.keys, arguments.clients, strict=True) for _ in range(n)]
        self.tallies = [Tally(key) for key in keys]

    async def run(self) -> dict[str, Any]:
        """Everything; returns what came of it."""
        async with client() as session:
            for subject in SUBJECTS:
                self._undisturbed[subject] = await self._listen_undisturbed(session, subject)
            self._console.print(f"{len(SUBJECTS)} texts to compare with; now all at once")
            started = time.perf_counter()
            end = started + 60 * self._arguments.minutes
            async with background() as others:
                others.create_task(self._watch_memory())
                killing = others.create_task(self._kill(end))
                async with asyncio.TaskGroup() as clients:
                    for number, tally in enumerate(self.tallies):
                        clients.create_task(self._client(session, number, tally, end))
                self.seconds = time.perf_counter() - started
                await killing  # Who is on the way back comes back.
                told = await self._metrics(session)
        left = await self._left()
        return self._result(left, told)

    async def _listen_undisturbed(
        self, session: aiohttp.ClientSession, subject: str
    ) -> Undisturbed:
        heard = await self._ask(session, "", subject, logprobs=True, top_logprobs=2)
        if heard.problem:
            raise SwarmError(f"no undisturbed answer: {heard.problem}")
        close, length = [], 0
        for chance in heard.chances:
            best, second = (each["logprob"] for each in chance["top_logprobs"])
            if best - second < CLOSE:
                close.append(length)
            length += len(bytes(chance["bytes"] or ()))
        return Undisturbed(heard.text, close)

    async def _ask(
        self, session: aiohttp.ClientSession, key: str, subject: str, **more: Any
    ) -> Heard:
        stage = self._stage
        return await ask(
            session,
            stage.url,
            stage.keys[key or next(iter(stage.keys))],
            f"Write a long story about {subject}.",
            temperature=0,
            max_tokens=self._arguments.tokens,
            **more,
        )

    async def _client(
        self, session: aiohttp.ClientSession, number: int, tally: Tally, end: float
    ) -> None:
        draw = random.Random(number)
        while time.perf_counter() < end:
            subject = draw.choice(SUBJECTS)
            heard = await self._ask(session, tally.key, subject)
            if heard.refused:
                tally.num_refused += 1
                await asyncio.sleep(REFUSED_PAUSE)
            else:
                self._note(tally, subject, heard)

    def _note(self, tally: Tally, subject: str, heard: Heard) -> None:
        tally.num_tokens += heard.num_tokens
        tally.num_answers += 1
        tally.gaps += [later - earlier for earlier, later in pairwise(heard.times)]
        if heard.times:
            tally.first.append(heard.times[0] - heard.asked)
        if heard.problem:
            tally.broken.append(heard.problem)
            self._console.print(f"BROKEN {heard.problem}")
            return
        due = self._undisturbed[subject]
        if heard.text == due.text:
            return
        # Tokens are counted in bytes: a difference may be in the middle of a character.
        at = _first_difference(heard.text.encode(), due.text.encode())
        if any(start <= at < start + 64 for start in due.close):
            tally.num_ties += 1
        else:
            tally.wrong.append((due.text, heard.text))
            self._console.print(f"WRONG at byte {at}: {heard.text[:200]!r}")

    async def _kill(self, end: float) -> None:
        every, peers = self._arguments.every, self._stage.peers
        if not every:
            return
        due = time.perf_counter() + every
        while due < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            peer = peers[self.num_kills % len(peers)]
            self.num_kills += 1
            self._stage.group.lose(Kind.KILL, peer)
            started = time.perf_counter()
            await self._stage.group.restore(Kind.KILL, peer)
            back = time.perf_counter() - started
            self._console.print(f"killed {peer.name}, back after {back:.1f} s; {self._sofar()}")
            due = max(due + every, time.perf_counter() + 1)

    def _sofar(self) -> str:
        answers = sum(tally.num_answers for tally in self.tallies)
        broken = sum(len(tally.broken) for tally in self.tallies)
        return f"{answers} answers, {broken} broken"

    async def _watch_memory(self) -> None:
        started = time.perf_counter()
        while True:
            processes = {peer.name: peer.process for peer in self._stage.peers}
            for name, process in {"gateway": self._stage.gateway, **processes}.items():
                # A peer that was killed begins anew.
                with suppress(psutil.Error):
                    rss = psutil.Process(process.pid).memory_info().rss if process else 0
                    if process and rss:
                        series = self._memory.setdefault(f"{name} {process.pid}", [])
                        series.append((time.perf_counter() - started, rss))
            await asyncio.sleep(SAMPLE)

    async def _metrics(self, session: aiohttp.ClientSession) -> dict[str, float]:
        """The gateway's own counters that have no labels."""
        url = self._stage.url.removesuffix("/v1") + "/metrics"
        key = next(iter(self._stage.keys.values()))
        async with session.get(url, headers={"Authorization": f"Bearer {key}"}) as response:
            text = await response.text()
        found = re.findall(r"^homeswarm_(\w+) ([0-9.e+]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    async def _left(self) -> dict[str, dict[str, int]]:
        """What is still held when nobody asks any more; it may take a moment to be given back."""
        deadline = time.perf_counter() + SETTLE
        while True:
            left = {"gateway": _held(await self._stage.gateway.census(), LEFT_AT_GATEWAY)}
            for peer in self._stage.peers:
                assert peer.process is not None
                left[peer.name] = _held(await peer.process.census(), LEFT)
            if not any(left.values()) or time.perf_counter() > deadline:
                return left
            await asyncio.sleep(0.5)

    def _result(
        self, left: Mapping[str, Mapping[str, int]], told: Mapping[str, float]
    ) -> dict[str, Any]:
        tallies = self.tallies
        keys = dict.fromkeys(self._stage.keys, 0)
        for tally in tallies:
            keys[tally.key] += tally.num_tokens
        num_tokens = sum(keys.values())
        first = [seconds for tally in tallies for seconds in tally.first]
        gaps = [seconds for tally in tallies for seconds in tally.gaps]
        return {
            "model": Path(self._arguments.model).name,
            "seconds": self.seconds,
            "clients": len(tallies),
            "kills": self.num_kills,
            "answers": sum(tally.num_answers for tally in tallies),
            "broken": [problem for tally in tallies for problem in tally.broken],
            "wrong": [texts for tally in tallies for texts in tally.wrong],
            "ties": sum(tally.num_ties for tally in tallies),
            "refused": sum(tally.num_refused for tally in tallies),
            "tokens_per_second": num_tokens / self.seconds,
            "fairness_clients": fairness([tally.num_tokens for tally in tallies]),
            "fairness_keys": fairness(list(keys.values())),
            "tokens_of_keys": keys,
            "first_token_ms": _spread(first),
            "gap_ms": _spread(gaps),
            "memory": {name: _memory(series) for name, series in self._memory.items()},
            "left": left,
            "gateway": dict(told),
        }


def fairness(shares: Sequence[float]) -> dict[str, float]:
    """Jain's index (1: all the same), and the smallest share by the largest.

    R. Jain, D. Chiu, W. Hawe, "A quantitative measure of fairness and discrimination", 1984.
    """
    squares = len(shares) * sum(share * share for share in shares)
    largest = max(shares, default=0)
    return {
        "jain": sum(shares) ** 2 / squares if squares else 1.0,
        "min_max": min(shares) / largest if largest else 1.0,
    }


def _held(counts: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    return {name: counts[name] for name in names if counts.get(name)}


def _first_difference(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3, "worst": max(seconds) * 1e3}


def _memory(series: Sequence[tuple[float, int]]) -> dict[str, float]:
    """MiB at the beginning and end, and MiB per minute over the second half."""
    half = series[len(series) // 2 :]
    slope = 0.0
    if len({at for at, _ in half}) > 1:
        slope = statistics.linear_regression(*zip(*half, strict=True)).slope
    scale = 1 / (1 << 20)
    return {
        "seconds": series[-1][0] - series[0][0],
        "first": series[0][1] * scale,
        "last": series[-1][1] * scale,
        "per_minute": slope * 60 * scale,
    }


def _show(result: Mapping[str, Any]) -> None:
    table = Table(title=f"{result['model']}: {result['clients']} clients", show_header=False)
    rows = {
        "time": f"{result['seconds']:.0f} s, {result['kills']} kills",
        "answers": f"{result['answers']}, {result['refused']} refused",
        "broken streams": str(len(result["broken"])),
        "wrong texts": f"{len(result['wrong'])}, {result['ties']} ties",
        "tokens/s": f"{result['tokens_per_second']:.1f} in all",
        "shares of clients": _shares(result["fairness_clients"]),
        "shares of keys": f"{_shares(result['fairness_keys'])}: {result['tokens_of_keys']}",
        "first token": _milliseconds(result["first_token_ms"]),
        "gap": _milliseconds(result["gap_ms"]),
        "left": str({name: held for name, held in result["left"].items() if held} or "nothing"),
        "recoveries": f"{result['gateway'].get('recoveries_total', 0):.0f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for name, memory in result["memory"].items():
        text = "{first:.0f} → {last:.0f} MiB, {per_minute:+.2f} MiB/min over {seconds:.0f} s"
        table.add_row(f"memory {name}", text.format(**memory))
    Console().print(table)


def _shares(found: Mapping[str, float]) -> str:
    return f"Jain {found['jain']:.3f}, smallest/largest {found['min_max']:.2f}"


def _milliseconds(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f} ms" for name, value in found.items())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="default: the demonstration model")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--every", type=float, default=30.0, help="seconds per kill; 0: none")
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 8, 8, 8], help="of each key")
    parser.add_argument("--running", type=int, default=32, help="answers at a time; others wait")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--parts", action="store_true", help="peers that do not overlap")
    parser.add_argument("--dtype", default="float32", help="others do not add up exactly")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds for missing blocks")
    parser.add_argument("--logs", metavar="DIR", help="keep logs and identities there")
    parser.add_argument("--json", metavar="FILE", help="write JSON too; - for JSON alone")
    arguments = parser.parse_args()
    if min(arguments.clients) < 1 or arguments.minutes <= 0:
        parser.error("at least one client of each key, and some time")
    arguments.model = arguments.model or str(demonstration_model())
    return arguments


async def _measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    with open_checkpoint(arguments.model) as checkpoint:
        num_blocks = checkpoint.num_blocks
    spans = (in_parts if arguments.parts else overlapping)(num_blocks, arguments.peers)
    keys = [f"key-{number}" for number in range(len(arguments.clients))]
    options = ["--most-running", str(arguments.running), "--wait", str(arguments.wait)]
    options += ["--most-waiting", str(2 * sum(arguments.clients))]
    options += ["--most-waiting-each", str(2 * max(arguments.clients))]
    plan = Plan(arguments.model, spans, arguments.dtype, keys, options)
    async with staged(plan, folder) as stage:
        return await Load(arguments, stage).run()


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.logs or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = run_async(_measure(arguments, folder))
    tell(result, arguments.json, partial(_show, result))
    if result["broken"] or result["wrong"] or any(result["left"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
