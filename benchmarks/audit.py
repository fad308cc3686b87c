"""What checking the peers' work costs, and how soon it finds who is wrong.

    python benchmarks/audit.py [--trials 20] [--rate 0.05] [--json FILE]

Commitments: microseconds per decode step and per chunk of a prompt at one hop, by hidden size.
Checks: a tiny model's chain of two peers and three witnesses, in one process over the in-memory
twins. The second peer's results are noise at each position with probability p; sessions follow one
another until it is caught. The number of steps until then is compared with what the rate promises
(`docs/audit.md`). Last, honest peers alone: which part of the work was done again.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import torch
from rich.console import Console
from telling import tell

from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.cli.runner import run_async
from swarm.client import AuditConfig, RowInput, Swarm
from swarm.client.auditing.auditor import Tally
from swarm.client.head import Head
from swarm.directory.memory import MemoryDirectory, Registry
from swarm.member import Member
from swarm.membership.founder import Founder
from swarm.peer.commitments import Commitments
from swarm.peer.config import PeerConfig
from swarm.peer.load import Speed
from swarm.peer.service import Peer, serving
from swarm.transport.memory import Network
from swarm.wire.messages import DType, Open, RowRange

PROMPT_LEN, NUM_DECODED = 8, 32
SESSION_LEN = PROMPT_LEN + NUM_DECODED
WRONG = (1.0, 0.1, 0.02)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="for each probability of a fault")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--sessions", type=int, default=200, help="of honest peers")
    parser.add_argument("--json", metavar="FILE", help="write JSON too; - for JSON alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {"commitments": _commitments()} | run_async(_measure(arguments))
    tell(result, arguments.json, partial(_show, result))


# Commitments


def _commitments() -> list[dict[str, float]]:
    found = []
    for hidden_size in (576, 4096, 8192):
        step, chunk = _committing(hidden_size, 1), _committing(hidden_size, 128)
        found.append({"hidden_size": hidden_size, "decode_us": step, "chunk_us": chunk})
    return found


def _committing(hidden_size: int, num_positions: int) -> float:
    """Microseconds in which a hop commits itself to a step in bfloat16."""
    size = DType.BFLOAT16.position_len(hidden_size)
    request = Open("s" * 16, 1, "model", 0, 1, 1, 0, 0.0, DType.BFLOAT16, key=os.urandom(16))
    made = Commitments(request, size)
    received, sent = (memoryview(os.urandom(num_positions * size)) for _ in range(2))
    times = []
    for index in range(200):
        rows = (RowRange(0, index * num_positions, num_positions),)
        started = time.perf_counter()
        made.tag(1, 0, made.write(rows, received, sent))
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


# Checks


class Group:
    """A group over the twins, and a tiny model in it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.head = Head.load(checkpoint, torch.float32)
        self._network, self._registry, self._names = Network(), Registry(), count()
        signers = (self._network.signer(name) for name in ("group", "authority"))
        self._founder = Founder(*signers)

    def member(self, name: str) -> Member:
        """Somebody new."""
        transport = self._network.transport(name)
        membership = self._founder.admit(transport.signer)
        return Member(transport, MemoryDirectory(self._registry, name), membership)

    async def peer(self, stack: AsyncExitStack, name: str, blocks: tuple[int, int]) -> Peer:
        """A peer that serves."""
        config = PeerConfig(
            name=name, blocks=blocks, device="cpu", dtype="float32", threads=1, kv_memory=8 << 20
        )
        return await stack.enter_async_context(serving(self.member(name), self.checkpoint, config))

    @asynccontextmanager
    async def client(self, rate: float) -> AsyncIterator[Swarm]:
        """Somebody who asks, and who has seen nothing yet."""
        # What earlier clients have reported is no reason here to look closer.
        config = AuditConfig(rate=rate, watch_rate=0.0)
        member = self.member(f"client-{next(self._names)}")
        async with Swarm.over(member, audit_config=config) as swarm:
            yield swarm

    async def ask(self, swarm: Swarm) -> None:
        """One session: a prompt, and one token after the other."""
        model = swarm.remote(self.checkpoint, self.head)
        async with model.session() as session:
            await session.step([RowInput(0, 0, self.head.embed(_ids(PROMPT_LEN)))])
            for position in range(PROMPT_LEN, SESSION_LEN):
                await session.step([RowInput(0, position, self.head.embed(_ids(1)))])
        await swarm.audited(60.0)


def _slow(peer: Peer) -> None:
    """Has a peer say that it is slow: it is a witness, and no route leads through it."""
    assert peer.hosting is not None
    claim = Speed(10.0, 1.0)
    peer.hosting._load.speed = lambda now: claim  # type: ignore[method-assign]


class Liar:
    """Makes a peer's results noise at some positions, while it is `on`."""

    def __init__(self, peer: Peer) -> None:
        assert peer.hosting is not None
        self.share = 0.0
        self._runner = peer.hosting.runner
        self._run = self._runner.run
        self._runner.run = self._lie  # type: ignore[method-assign]

    def _lie(self, rows: Any, hidden: torch.Tensor, blocks: Any = None) -> torch.Tensor:
        out = self._run(rows, hidden, blocks)
        wrong = torch.rand(len(out)) < self.share
        return torch.where(wrong[:, None], torch.randn_like(out), out)


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        _tiny(folder)
        with open_checkpoint(folder) as checkpoint:
            async with AsyncExitStack() as stack:
                return await _check(Group(checkpoint), stack, arguments)


async def _check(
    group: Group, stack: AsyncExitStack, arguments: argparse.Namespace
) -> dict[str, Any]:
    await group.peer(stack, "first", (0, 2))
    liar = Liar(await group.peer(stack, "second", (2, 4)))
    for number in range(3):
        _slow(await group.peer(stack, f"witness-{number}", (2, 4)))
    rate, found = arguments.rate, []
    for share in WRONG:
        liar.share = share
        steps = [await _until_caught(group, rate) for _ in range(arguments.trials)]
        found.append(
            {
                "wrong": share,
                "steps": statistics.mean(steps),
                "expected": expected_steps(rate, share),
            }
        )
    liar.share = 0.0
    tally = await _honest(group, rate, arguments.sessions)
    extra = tally.checked / tally.computed
    return {"rate": rate, "found": found, "extra": extra, "caught_honest": tally.caught}


async def _until_caught(group: Group, rate: float) -> int:
    async with group.client(rate) as swarm:
        for number in count(1):
            await group.ask(swarm)
            if swarm.audits.caught:
                return number * SESSION_LEN
    raise AssertionError("it goes on until then")


async def _honest(group: Group, rate: float, sessions: int) -> Tally:
    async with group.client(rate) as swarm:
        for _ in range(sessions):
            await group.ask(swarm)
        return swarm.audits


def expected_steps(rate: float, wrong: float) -> float:
    """Steps until a peer is caught that is wrong at each position with probability `wrong`."""
    first = rate / 2
    later = min(1.0, rate / 2 / PROMPT_LEN)
    glance = 1 - (1 - first) * (1 - later) ** NUM_DECODED
    beginning, all_of_it = (1 - (1 - wrong) ** length for length in (PROMPT_LEN, SESSION_LEN))
    in_session = 1 - (1 - glance * beginning) * (1 - rate / 2 * all_of_it)
    return SESSION_LEN / in_session


def _ids(number: int) -> torch.Tensor:
    return torch.tensor([random.randrange(1, 300) for _ in range(number)])


def _tiny(folder: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama",
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=300,
        max_position_embeddings=512,
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            noise = 0.08 * torch.randn_like(weight)
            weight.copy_(noise if weight.dim() > 1 else weight + noise)
    model.save_pretrained(folder)


def _show(result: dict[str, Any]) -> None:
    say = Console(highlight=False).print
    for each in result["commitments"]:
        say(
            f"hidden size {each['hidden_size']}: {each['decode_us']:.1f} µs per decode step,"
            f" {each['chunk_us']:.0f} µs per 128 positions of a prompt"
        )
    say(f"rate {result['rate']:.1%}, sessions of {PROMPT_LEN} + {NUM_DECODED} positions")
    for each in result["found"]:
        say(
            f"wrong with probability {each['wrong']}: caught after {each['steps']:.0f} steps"
            f" (expected {each['expected']:.0f})"
        )
    say(
        f"honest peers: {result['extra']:.2%} of the work done again, {result['caught_honest']}"
        " caught"
    )


if __name__ == "__main__":
    main()
