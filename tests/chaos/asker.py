"""One client process of the chaos test: asks, compares, and tells of each reply in a JSON line.

    python asker.py INVITE MODEL ANSWERS SEED

ANSWERS is a JSON file of `[{"prompt": [ids], "answer": [ids]}, …]`. SIGTERM leaves at once;
SIGUSR2 lets the replies that run come to their end and leaves then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import sys
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import torch

from swarm.cli._census import of_process
from swarm.cli.runner import Stopped, run_async
from swarm.client import ModelOptions, RemoteModel, Reply, SamplingConfig, Swarm
from swarm.errors import SwarmError
from swarm.member import JoinConfig

NUM_STREAMS = 2
NOTED_GAP = 0.3
"""Seconds between two tokens from which on the gap is told."""


def say(kind: str, **values: Any) -> None:
    """One line for the killer's bookkeeping."""
    sys.stdout.write(json.dumps({"kind": kind, "time": time.time(), **values}) + "\n")
    sys.stdout.flush()


class Asker:
    """Streams that ask one prompt after the other until they are told to finish."""

    def __init__(self, model: RemoteModel, answers: list[dict[str, list[int]]], seed: int) -> None:
        self._model = model
        self._answers = answers
        self._seed = seed
        self._finishing = False

    def finish(self) -> None:
        """Begins no further reply."""
        self._finishing = True

    async def stream(self, number: int) -> None:
        """Asks until told to finish."""
        chance = random.Random(1000 * self._seed + number)
        count = 0
        while not self._finishing:
            wanted = chance.choice(self._answers)
            length = chance.randint(min(4, len(wanted["answer"])), len(wanted["answer"]))
            leaves_at = chance.randint(1, length) if chance.random() < 0.08 else None
            count += 1
            await self._ask(f"{number}.{count}", wanted, length, leaves_at)

    async def _ask(
        self, name: str, wanted: dict[str, list[int]], length: int, leaves_at: int | None
    ) -> None:
        reply = Reply(list(wanted["prompt"]))
        say("begin", reply=name, prompt_len=len(wanted["prompt"]), length=length)
        gaps: list[tuple[float, float]] = []
        problem = ""
        last = time.time()
        told: tuple[object, int] = ((), 0)
        try:
            sampling = SamplingConfig(max_new_tokens=length, ignore_eos=True)
            async with aclosing(self._model.reply(reply, sampling)) as pieces:
                async for _ in pieces:
                    now = time.time()
                    if now - last >= NOTED_GAP:
                        gaps.append((last, now))
                    last = now
                    if told != (told := (reply.route, reply.num_recoveries)):
                        hops = [hop.peer for hop in reply.route]
                        say("route", reply=name, peers=hops, recoveries=reply.num_recoveries)
                    if leaves_at is not None and len(reply.ids) >= leaves_at:
                        break
        except SwarmError as error:
            problem = f"{type(error).__name__}: {error}"
            gaps.append((last, time.time()))
        right = reply.ids == wanted["answer"][: len(reply.ids)]
        left = leaves_at is not None and not problem
        outcome = "failed" if problem else "wrong" if not right else "left" if left else "right"
        if outcome == "right" and len(reply.ids) != length:
            outcome, problem = "wrong", f"{len(reply.ids)} tokens of {length}"
        say(
            "end",
            reply=name,
            outcome=outcome,
            tokens=len(reply.ids),
            gaps=gaps,
            problem=problem or ("" if right else self._difference(reply, wanted)),
        )

    def _difference(self, reply: Reply, wanted: dict[str, list[int]]) -> str:
        pairs = zip(reply.ids, wanted["answer"], strict=False)
        at = next(i for i, (got, due) in enumerate(pairs) if got != due)
        return f"token {at}: {reply.ids[at : at + 5]} for {wanted['answer'][at : at + 5]}"


async def main(invite: str, model: str, answers: str, seed: str) -> None:
    """Joins, asks, and leaves."""
    wanted = json.loads(Path(answers).read_bytes())  # noqa: ASYNC240
    place = JoinConfig(asks=True, host="127.0.0.1", map_port=False)
    async with Swarm.join(invite, place) as swarm:
        remote = await swarm.model(model, ModelOptions(dtype="float32"))
        await asyncio.to_thread(lambda: remote.tokenizer)
        asker = Asker(remote, wanted, int(seed))
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, asker.finish)
        say("joined")
        async with asyncio.TaskGroup() as tasks:
            for number in range(NUM_STREAMS):
                tasks.create_task(asker.stream(number))
        links, transport = swarm._neighbours.num_links, swarm.member.transport
        say(
            "census",
            receivers=len(swarm._exchange._receivers),
            links=links,
            streams=transport.num_streams,
            **of_process(),
        )


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("swarm").setLevel(logging.INFO)
    torch.set_num_threads(1)
    try:
        run_async(main(*sys.argv[1:]))
    except Stopped:
        say("stopped")
    except SwarmError as failure:
        say("not_joined", problem=f"{type(failure).__name__}: {failure}")
        sys.exit(1)
