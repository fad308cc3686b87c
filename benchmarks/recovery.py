"""How long the text stands still when a peer is lost: killed, frozen, or leaving politely.

    python benchmarks/recovery.py [--rounds 30] [--kinds none kill freeze leave] [--json FILE]

Starts a bootstrap and two peers with one thread each for every third of the model, and asks from
this process. Some tokens into each reply, a peer on its route is lost, on each hop in turn, at
another moment of a step each time. The stall is the longest gap between two tokens from then on,
less the usual one before. `none` loses nobody: what stands still then is the machine's own noise.
The table goes to standard output; `--json -` writes JSON instead.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from ear import Ear
from losses import Group, Kind, Peer
from rich.console import Console
from rich.table import Table
from telling import tell

from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.cli._processes import running
from swarm.cli.demo import demonstration_model
from swarm.cli.runner import run_async
from swarm.client import ModelOptions, RemoteModel, RowInput, Session, Swarm
from swarm.client.head import Head
from swarm.errors import SwarmError
from swarm.member import JoinConfig

HOST = "127.0.0.1"
HOPS = 3
COPIES = 2
"""Peers for each span: the one that is lost, and the one that takes over."""

AFTER = 32
"""Tokens after the loss. A peer that leaves may take longer to be replaced: as often again, `MORE`
times."""

MORE = 4
REPLY_LIMIT = 120.0
QUIET = 0.2
"""Share of all cores in use below which the machine counts as quiet."""

QUIET_LIMIT = 20.0
NOTICED = ("link ended peer=", "hop failed ", "step silent ")
"""How the client's log lines begin that tell that something is wrong."""

CLOSE = 2e-3
"""Where the two best tokens are nearer than this, sums in another order may swap them."""


@dataclass
class Round:
    """One reply. Times in seconds, `events` as seconds after the loss and what the client logged.

    The stall's parts, where the client's log has them: until it `noticed` the loss, until the
    route was `rewired`, and until the missing history was `refilled` and the next token came.
    `busy` is the share of the machine that was in use before.
    """

    kind: Kind
    hop: int
    usual: float = 0.0
    stall: float = 0.0
    noticed: float | None = None
    rewired: float | None = None
    refilled: float | None = None
    recoveries: int = 0
    handovers: int = 0
    busy: float = 0.0
    problem: str = ""
    events: list[tuple[float, str]] = field(default_factory=list)


class Best(NamedTuple):
    """A most probable token, and how much its logit exceeds the second best's."""

    token: int
    margin: float


class Bench:
    """The swarm's processes and the client's part of the model, for all rounds."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, checkpoint: Checkpoint) -> None:
        self.rounds: list[Round] = []
        self._arguments = arguments
        self._folder = folder
        self._ear = Ear()
        self._console = Console(stderr=True, highlight=False)
        self._checkpoint = checkpoint
        self._head = Head.load(checkpoint, ModelOptions(dtype=arguments.dtype).torch_dtype)
        self._text = _text(checkpoint, arguments.positions + MORE * AFTER)
        self._undisturbed: list[Best] = []

    async def run(self) -> None:
        """All rounds, the kinds in turns: machines drift."""
        async with running(self._folder) as processes:
            bootstrap = ["bootstrap", "--host", HOST, "--no-map-port"]
            bootstrap += ["--dir", str(self._folder / "bootstrap")]
            invite = await (await processes.start("bootstrap", bootstrap)).line()
            group = Group(processes, self._peers(invite))
            await group.start()
            try:
                async with self._ready(invite, group) as remote:
                    await self._undisturbed_reply(remote)
                for number in range(self._arguments.rounds):
                    for kind in self._arguments.kinds:
                        self.rounds.append(await self._round(invite, group, kind, number))
                        self._tell(self.rounds[-1], number)
            finally:
                group.thaw()  # Who is frozen cannot be ended.

    def _peers(self, invite: str) -> list[Peer]:
        num_blocks = self._checkpoint.num_blocks
        borders = [num_blocks * part // HOPS for part in range(HOPS + 1)]
        peers = []
        for hop, (start, end) in enumerate(pairwise(borders), 1):
            for copy in "abc"[:COPIES]:
                name = f"peer-{hop}{copy}"
                arguments = ["-v", "peer", "--join", invite, "--model", self._arguments.model]
                arguments += ["--blocks", f"{start}:{end}", "--dtype", self._arguments.dtype]
                arguments += ["--threads", "1", "--kv-memory", "64MB", "--name", name]
                arguments += ["--dir", str(self._folder / name), "--host", HOST, "--no-map-port"]
                peers.append(Peer(name, arguments))
        return peers

    @asynccontextmanager
    async def _ready(self, invite: str, group: Group) -> AsyncIterator[RemoteModel]:
        """A client for one reply, once everybody serves.

        Not the same for all: after so many losses it would avoid every peer, with reason, or give
        it more time to answer.
        """
        place = JoinConfig(
            asks=True, host=HOST, map_port=False, state_folder=self._folder / "client"
        )
        async with Swarm.join(invite, place) as swarm:
            await group.serve(swarm)
            yield swarm.remote(self._checkpoint, self._head)

    async def _undisturbed_reply(self, remote: RemoteModel) -> None:
        """What the others are compared with; also warms everything up."""
        async with remote.session() as session, aclosing(self._tokens(session)) as tokens:
            self._undisturbed = [best async for best in tokens]

    async def _round(self, invite: str, group: Group, kind: Kind, number: int) -> Round:
        result = Round(kind, number % HOPS + 1)
        async with self._ready(invite, group) as remote:
            result.busy = await _quiet()
            self._ear.heard.clear()
            # Never twice at the same moment of a step.
            reply = Disturbed(group, result, (number + 0.5) / self._arguments.rounds)
            try:
                async with asyncio.timeout(REPLY_LIMIT), remote.session() as session:
                    async with aclosing(self._tokens(session)) as tokens:
                        await reply.read(session, tokens, self._arguments.positions // 4)
                reply.measure(self._ear.heard)
                if self._arguments.check and not _same(reply.tokens, self._undisturbed):
                    result.problem = "other tokens than undisturbed"
            except (SwarmError, TimeoutError) as error:
                result.problem = f"{type(error).__name__}: {error}"
        if reply.victim is not None:
            try:
                await group.restore(kind, reply.victim)
            except SwarmError as error:
                result.problem = result.problem or str(error)
        return result

    async def _tokens(self, session: Session) -> AsyncGenerator[Best, None]:
        """The best token after each position of the text; all but the first after a decode step.

        What goes in is the text, whatever comes out: a wrong position shows in every later token,
        where a model's own reply may run into a loop that hides it.
        """
        fresh, rest = self._text.tensor_split([self._arguments.positions * 3 // 4])
        position = 0
        while True:
            (last,) = await session.step([RowInput(0, position, self._head.embed(fresh))])
            position += len(fresh)
            best = self._head.logits(last)[0].float().topk(2)
            yield Best(int(best.indices[0]), float(best.values[0] - best.values[1]))
            if not len(rest):
                return
            fresh, rest = rest[:1], rest[1:]

    def _tell(self, result: Round, number: int) -> None:
        parts = f"{result.stall * 1e3:5.0f} ms, usual gap {result.usual * 1e3:3.0f} ms"
        head = f"{number + 1:3}/{self._arguments.rounds} {result.kind:6} hop {result.hop}"
        busy = f", {result.busy:.0%} busy" if result.busy > QUIET else ""
        self._console.print(f"{head}: {result.problem or parts}{busy}", soft_wrap=True)


class Disturbed:
    """One reply, in the midst of which a peer is lost; `moment` in [0, 1) is when in a step."""

    def __init__(self, group: Group, result: Round, moment: float) -> None:
        self.tokens: list[Best] = []
        self.victim: Peer | None = None
        self._group = group
        self._result = result
        self._moment = moment
        self._times: list[float] = []
        self._lost_at = 0.0

    async def read(self, session: Session, tokens: AsyncIterator[Best], num_before: int) -> None:
        """Reads the reply until it runs well without the lost peer."""
        end = num_before + MORE * AFTER
        async for best in tokens:
            self._times.append(time.perf_counter())
            self.tokens.append(best)
            if len(self.tokens) == num_before:
                self._result.usual = statistics.median(_gaps(self._times))
                delay = self._moment * self._result.usual
                asyncio.get_running_loop().call_later(delay, partial(self._lose, session))
            over = len(self.tokens) - num_before
            if over >= AFTER and over % AFTER == 0 and (self._replaced(session) or over == end):
                break
        self._result.recoveries = session.num_recoveries
        self._result.handovers = session.num_handovers
        if not self._replaced(session):
            self._result.problem = "the lost peer is still on the route"

    def _lose(self, session: Session) -> None:
        self.victim = self._group.find(session.route[self._result.hop - 1].peer)
        self._lost_at = time.perf_counter()
        self._group.lose(self._result.kind, self.victim)

    def _replaced(self, session: Session) -> bool:
        if self._result.kind is Kind.NONE or self.victim is None:
            return self._result.kind is Kind.NONE
        return self.victim.peer_id not in {hop.peer for hop in session.route}

    def measure(self, heard: Sequence[tuple[float, str]]) -> None:
        """Finds the stall and its parts in the times of the tokens and of the log lines."""
        result, lost = self._result, self._lost_at
        result.events = [(at - lost, line) for at, line in heard if at >= lost]
        start, end = max(
            (pair for pair in pairwise(self._times) if pair[1] > lost),
            key=lambda pair: pair[1] - pair[0],
        )
        result.stall = end - start - result.usual
        inside = [(at, line) for at, line in heard if max(start, lost) <= at <= end]
        signs = [at for at, line in inside if line.startswith(NOTICED)]
        wired = [at for at, line in inside if line.startswith("route wired ")]
        if result.kind in (Kind.KILL, Kind.FREEZE) and signs and wired:
            result.noticed = signs[0] - lost
            result.rewired = wired[-1] - signs[0]
            result.refilled = end - wired[-1]


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    torch.set_num_threads(1)
    with (
        tempfile.TemporaryDirectory() as temporary,
        open_checkpoint(arguments.model) as checkpoint,
    ):
        folder = Path(arguments.logs or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(arguments, folder, checkpoint)
        try:
            run_async(bench.run())
        finally:
            # Ctrl-C shows what has been measured until then.
            if bench.rounds:
                _report(bench.rounds, arguments)


def _report(rounds: Sequence[Round], arguments: argparse.Namespace) -> None:
    result = _result(rounds, arguments)
    tell(result, arguments.json, partial(_show, result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="default: the demonstration model")
    parser.add_argument("--rounds", type=int, default=30, help="of each kind")
    parser.add_argument("--kinds", nargs="+", type=Kind, choices=list(Kind), default=list(Kind))
    parser.add_argument(
        "--positions", type=int, default=200, help="in the session at the loss; a quarter decoded"
    )
    parser.add_argument(
        "--check", action="store_true", help="in float32, compare with an undisturbed reply"
    )
    parser.add_argument("--logs", metavar="DIR", help="keep the peers' logs and identities there")
    parser.add_argument("--json", metavar="FILE", help="write JSON too; - for JSON alone")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.positions < 16:
        parser.error("at least 1 round and 16 positions")
    arguments.model = arguments.model or str(demonstration_model())
    # Batches of other sizes round differently in bfloat16: another token may be the best.
    arguments.dtype = "float32" if arguments.check else "bfloat16"
    return arguments


async def _quiet() -> float:
    """Waits until the machine has little to do; returns the share of it that is in use."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + QUIET_LIMIT
    psutil.cpu_percent()
    while True:
        await asyncio.sleep(0.5)
        busy = psutil.cpu_percent() / 100
        if busy < QUIET or clock() > deadline:
            return busy


def _gaps(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def _text(checkpoint: Checkpoint, length: int) -> torch.Tensor:
    """Tokens `[length]` of prose: what this benchmark says of itself, again and again."""
    ids = torch.tensor(checkpoint.tokenizer()(__doc__)["input_ids"])
    return ids.repeat(length // len(ids) + 1)[:length]


def _same(got: Sequence[Best], undisturbed: Sequence[Best]) -> bool:
    pairs = zip(got, undisturbed, strict=False)
    return all(mine.token == due.token for mine, due in pairs if due.margin >= CLOSE)


def _result(rounds: Sequence[Round], arguments: argparse.Namespace) -> dict[str, Any]:
    kinds = {}
    for kind in arguments.kinds:
        good = [each for each in rounds if each.kind is kind and not each.problem]
        stalls = [each.stall * 1e3 for each in good]
        kinds[kind] = {
            "rounds": sum(each.kind is kind for each in rounds),
            "complete": len(good),
            "stall_ms_median": _median(stalls),
            "stall_ms_worst": max(stalls, default=None),
            "usual_gap_ms": _median([each.usual * 1e3 for each in good]),
            "noticed_ms": _median([e.noticed * 1e3 for e in good if e.noticed is not None]),
            "rewired_ms": _median([e.rewired * 1e3 for e in good if e.rewired is not None]),
            "refilled_ms": _median([e.refilled * 1e3 for e in good if e.refilled is not None]),
        }
    return {
        "model": Path(arguments.model).name,
        "dtype": arguments.dtype,
        "hops": HOPS,
        "positions": arguments.positions,
        "kinds": kinds,
        "rounds": [asdict(each) for each in rounds],
    }


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _show(result: dict[str, Any]) -> None:
    table = Table(
        title=f"{result['model']}, {result['dtype']}, {result['hops']} hops,"
        f" {result['positions']} positions; ms"
    )
    columns = ("median", "worst", "usual", "noticed", "rewired", "refilled")
    for column in ("lost by", "complete", *columns):
        table.add_column(column, justify="left" if column == "lost by" else "right")
    keys = ["stall_ms_median", "stall_ms_worst", "usual_gap_ms"]
    keys += ["noticed_ms", "rewired_ms", "refilled_ms"]
    for kind, row in result["kinds"].items():
        cells = ("–" if row[key] is None else f"{row[key]:.0f}" for key in keys)
        table.add_row(kind, f"{row['complete']}/{row['rounds']}", *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
