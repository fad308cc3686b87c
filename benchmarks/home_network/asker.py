"""The client in the box: measures what it is told to, over whatever network it finds itself in.

    python -m home_network.asker INVITE MODEL FOLDER

Says `ready`, then answers each `Task` on standard input, one line of JSON, with a `Measured`. It
joins the swarm anew for each, so that nothing that was learnt of an earlier network counts.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from speculation_texts import Text, chosen
from writing import write

from swarm.checkpoint import open_checkpoint
from swarm.cli.runner import run_async
from swarm.client import ModelOptions, RemoteModel, RowInput, Session, SpeculationConfig, Swarm
from swarm.client.config import SessionConfig
from swarm.client.head import Head
from swarm.member import JoinConfig
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport

from .echo import PROTOCOL

SETTLE = 1.5
"""Seconds for which links measure their round trips before anything is asked of them."""

WARM = 4
SHORT = 64
"""Positions of the prompt whose first token is waited for."""

ECHO = 16 * 1024
NUM_ECHOES = 9

TOKENS, PLAIN_TOKENS = 160, 32
"""Of each text that is written, with guesses and without."""

_HEADER = b"echo"


class Task(msgspec.Struct):
    """What to measure: `decode` steps, prompts of these lengths, each `rounds` times.

    `echo` is where the echo is, `chunk_len` how prompts are cut (0: as usual). `texts` are
    beginnings of the names of what is written, without and with guesses.
    """

    decode: int
    prompts: list[int]
    rounds: int
    echo: tuple[str, list[str]]
    chunk_len: int = 0
    texts: list[str] = []


class Prompt(msgspec.Struct):
    """One prompt length. `hops` are seconds of compute for one chunk alone, hop by hop.

    `sent` are the bytes that the client sent for it.
    """

    length: int
    seconds: list[float]
    hops: list[float]
    sent: int


class Written(msgspec.Struct):
    """One of `speculation_texts.TEXTS`: tokens per second without and with guesses, by rounds."""

    text: str
    off: list[float]
    on: list[float]

    @property
    def ratio(self) -> float:
        """How many times as fast it is with guesses: the median over rounds."""
        return statistics.median(on / off for on, off in zip(self.on, self.off, strict=True))


class Measured(msgspec.Struct):
    """What was measured, in seconds; `hops` is compute per decode step, hop by hop."""

    hidden_size: int
    chunk_len: int
    steps: list[float]
    hops: list[float]
    client: float
    first_token: list[float]
    echo: list[float]
    prompts: list[Prompt]
    recoveries: int
    written: list[Written] = []


@dataclass
class _Steps:
    """Times of decode steps."""

    whole: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    hops: list[list[float]] = field(default_factory=list)


class Asker:
    """Carries out tasks; the client's part of the model is loaded once."""

    def __init__(self, invite: str, model: str, folder: Path) -> None:
        self._invite = invite
        self._folder = folder
        self._checkpoint = open_checkpoint(model, cache_dir=folder / "cache")
        self._head = Head.load(self._checkpoint, ModelOptions().torch_dtype)

    async def measure(self, task: Task) -> Measured:
        """Joins, measures, and leaves again."""
        config = SessionConfig(chunk_len=task.chunk_len) if task.chunk_len else SessionConfig()
        place = JoinConfig(asks=True, map_port=False, state_folder=self._folder)
        async with Swarm.join(self._invite, place, session_config=config) as swarm:
            remote = swarm.remote(self._checkpoint, self._head)
            async with remote.session() as session:
                await self._prompt(session, SHORT)
                await asyncio.sleep(SETTLE)
                await self._decode(session, WARM)
            first = [await self._first_token(remote) for _ in range(3 * task.rounds)]
            async with remote.session() as session:
                await self._prompt(session, SHORT)
                steps = await self._decode(session, task.decode)
                recoveries = session.num_recoveries
            prompts = []
            for length in task.prompts:
                prompt, lost = await self._prompts(swarm, remote, length, task.rounds, config)
                prompts.append(prompt)
                recoveries += lost
            written = [await _written(remote, text, task.rounds) for text in chosen(task.texts)]
        return Measured(
            hidden_size=remote.head.module.config.hidden_size,
            chunk_len=config.chunk_len,
            steps=steps.whole,
            hops=[statistics.median(hop) for hop in zip(*steps.hops, strict=True)],
            client=statistics.median(steps.client),
            first_token=first,
            echo=await _echoes(*task.echo),
            prompts=prompts,
            recoveries=recoveries,
            written=written,
        )

    async def _decode(self, session: Session, num_steps: int) -> _Steps:
        steps, token = _Steps(), torch.tensor([7])
        for _ in range(num_steps):
            started = time.perf_counter()
            hidden = self._head.embed(token)
            embedded = time.perf_counter()
            (last,) = await session.step([RowInput(0, session.lengths[0], hidden)])
            returned = time.perf_counter()
            token = self._head.logits(last).argmax(-1)
            ended = time.perf_counter()
            steps.whole.append(ended - started)
            steps.client.append(ended - returned + embedded - started)
            steps.hops.append([hop.compute / 1e6 for hop in session.last_times])
        return steps

    async def _prompt(self, session: Session, length: int, start: int = 0) -> float:
        """Seconds from the ids to the token after them."""
        size = self._head.vocab_size
        ids = (torch.arange(start, start + length) * 31) % (size // 2) + size // 4
        started = time.perf_counter()
        (last,) = await session.step([RowInput(0, start, self._head.embed(ids))])
        self._head.logits(last).argmax(-1)
        return time.perf_counter() - started

    async def _first_token(self, remote: RemoteModel) -> float:
        started = time.perf_counter()
        async with remote.session() as session:
            await self._prompt(session, SHORT)
            return time.perf_counter() - started

    async def _prompts(
        self, swarm: Swarm, remote: RemoteModel, length: int, rounds: int, config: SessionConfig
    ) -> tuple[Prompt, int]:
        """Prompts as they are sent, and one whose chunks wait for one another: what they cost."""
        seconds, recoveries, sent = [], 0, 0
        for _ in range(rounds):
            async with remote.session() as session:
                await self._prompt(session, 1)  # Opens the route.
                before = swarm.traffic[0]
                seconds.append(await self._prompt(session, length))
                sent = swarm.traffic[0] - before
                recoveries += session.num_recoveries
        hops = []
        async with remote.session() as session:
            for start in range(0, length, config.chunk_len):
                await self._prompt(session, min(config.chunk_len, length - start), start)
                hops.append([hop.compute / 1e6 for hop in session.last_times])
        means = [statistics.mean(hop) for hop in zip(*hops, strict=True)]
        return Prompt(length, seconds, means, sent), recoveries


async def _written(remote: RemoteModel, text: Text, rounds: int) -> Written:
    """In turns. Without guesses every token takes the same time, so that fewer will do."""
    written = Written(text.name, [], [])
    for _ in range(rounds):
        off = await write(remote, text, PLAIN_TOKENS, SpeculationConfig(0))
        on = await write(remote, text, TOKENS, SpeculationConfig())
        written.off.append(off.tokens_per_second)
        written.on.append(on.tokens_per_second)
    return written


async def _echoes(peer: str, addresses: list[str]) -> list[float]:
    """Round trips of `ECHO` bytes over a stream that was opened before, with pauses between."""
    taken = []
    async with Libp2pTransport.start(Libp2pConfig(map_port=False)) as transport:
        stream = await transport.open(peer, PROTOCOL, addresses)
        stream.admit()
        for _ in range(NUM_ECHOES):
            started = time.perf_counter()
            await stream.send(_HEADER, bytes(ECHO))
            await stream.receive()
            taken.append(time.perf_counter() - started)
        await stream.aclose()
    return taken


async def _run(asker: Asker) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        _say(await asker.measure(msgspec.json.decode(line, type=Task)))


def _say(what: Any) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


def main() -> None:
    """Answers tasks until there are none."""
    invite, model, folder = sys.argv[1:]
    torch.set_num_threads(1)
    # What the links and routes went through stands in the machine's log.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asker = Asker(invite, model, Path(folder))
    _say("ready")
    run_async(_run(asker))


if __name__ == "__main__":
    main()
