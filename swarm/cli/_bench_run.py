"""`swarm bench` at work: joins or starts a swarm, measures it, and says what came out."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch

from swarm.background import together
from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.checkpoint.progress import Silent
from swarm.client import ModelOptions, RemoteModel, Swarm
from swarm.client.benchmark import bandwidth
from swarm.client.benchmark.measurement import Measured, Measurement, Say
from swarm.client.benchmark.plan import Plan
from swarm.client.benchmark.reference import PlainModel
from swarm.client.benchmark.result import Bandwidth, HopResult, LinkBytes, Memory, Result
from swarm.client.benchmark.shapes import random_model
from swarm.client.head import Head
from swarm.directory import Announcement
from swarm.invite import Invite
from swarm.wire.messages import HopTime

from ._footprint import footprint
from ._local import LocalSwarm, parts
from ._options import asker
from ._processes import Process, running

CLIENT = "client"

_HOP_TIME_BYTES = len(msgspec.msgpack.encode(HopTime(16, 32, 1000, 10_000, 1)))
"""What each hop adds to the header of a step."""


@dataclass(frozen=True)
class Source:
    """A model, how the client loads its part, and how many threads this process computes with.

    Where it `is_shape`, `model` names one of `swarm.client.benchmark.shapes`.
    """

    model: str
    options: ModelOptions
    threads: int
    is_shape: bool = False

    def place(self) -> str:
        """Where the model is; random weights are written there first if need be. Blocks."""
        if not self.is_shape:
            return self.model
        options = self.options
        return str(random_model(self.model, options.cache_dir, options.progress or Silent()))

    def open(self) -> Checkpoint:
        """The model. Blocks."""
        options = self.options
        return open_checkpoint(
            self.place(),
            revision=options.revision,
            cache_dir=options.cache_dir,
            progress=options.progress,
        )


@dataclass(frozen=True)
class LocalPeers:
    """Peers that a benchmark starts itself, on this machine."""

    num_peers: int
    kv_memory: str
    quantize: str | None = None

    def arguments(self, source: Source) -> list[str]:
        """What each `swarm peer` is told."""
        options = source.options
        arguments = ["--threads", str(source.threads), "--dtype", options.dtype]
        arguments += ["--kv-memory", self.kv_memory]
        if self.quantize:
            arguments += ["--quantize", self.quantize]
        if options.revision:
            arguments += ["--revision", options.revision]
        if options.cache_dir:
            arguments += ["--cache", str(options.cache_dir)]
        return arguments


class Bench:
    """One benchmark; `joined` or `started` runs it.

    Both raise `ConfigError` for what cannot be measured, and what joining and asking raise.
    """

    def __init__(self, source: Source, plan: Plan, say: Say, *, beside_plain: bool) -> None:
        self._source = source
        self._plan = plan
        self._say = say
        self._beside_plain = beside_plain
        self._processes: dict[str, Process] = {}
        torch.set_num_threads(source.threads)

    async def joined(self, invite: Invite) -> Result:
        """Measures the swarm of a group."""
        with await self._open() as checkpoint:
            self._say("Joining the group", None)
            async with Swarm.join(invite, asker()) as swarm:
                return await self._measure(swarm, checkpoint)

    async def started(self, peers: LocalPeers) -> Result:
        """Starts peers, measures them, and ends them."""
        with (
            await self._open() as checkpoint,
            tempfile.TemporaryDirectory(prefix="homeswarm-bench-") as folder,
        ):
            async with running(Path(folder)) as processes:
                local = LocalSwarm(processes, Path(folder), "bench")
                invite = await self._start(local, peers, checkpoint)
                async with Swarm.join(invite, local.asker) as swarm:
                    result = await self._measure(swarm, checkpoint)
                    limit = await self._bandwidth(checkpoint, peers.quantize, result)
        return replace(
            result, quantize=peers.quantize, threads=self._source.threads, bandwidth=limit
        )

    async def _open(self) -> Checkpoint:
        self._say("Reading the model", None)
        return await asyncio.to_thread(self._source.open)

    async def _start(self, local: LocalSwarm, peers: LocalPeers, checkpoint: Checkpoint) -> str:
        spans = parts(checkpoint.num_blocks, peers.num_peers)
        self._say(f"Starting {len(spans)} peers", None)
        invite = await local.bootstrap(len(spans))
        names = [f"peer-{number}" for number in range(1, len(spans) + 1)]
        started = await together(
            local.peer(name, self._source.place(), span, peers.arguments(self._source))
            for name, span in zip(names, spans, strict=True)
        )
        self._processes = {name: process for name, (process, _) in zip(names, started, strict=True)}
        return invite

    async def _measure(self, swarm: Swarm, checkpoint: Checkpoint) -> Result:
        dtype, plain = self._source.options.torch_dtype, None
        remote = swarm.remote(checkpoint, await asyncio.to_thread(Head.load, checkpoint, dtype))
        memory = [footprint(CLIENT)] if self._processes else []
        if self._beside_plain:
            self._say("Loading plain transformers", None)
            plain = await asyncio.to_thread(PlainModel.load, checkpoint, dtype)

        async def count() -> tuple[int, ...]:
            sent, received = swarm.traffic
            each = [await process.census() for process in self._processes.values()]
            return (sent, *(counts["sent"] for counts in each), received)

        measured = await Measurement(remote, self._plan, count, self._say, plain).run()
        memory += [footprint(name, process.pid) for name, process in self._processes.items()]
        names = _names(await swarm.announcements())
        return self._result(remote, measured, names, memory)

    def _result(
        self,
        remote: RemoteModel,
        measured: Measured,
        names: dict[str, str],
        memory: list[Memory],
    ) -> Result:
        samples, plan = measured.samples, self._plan
        hops = [
            HopResult(names.get(hop.peer, ""), hop.start, hop.end, compute, queue)
            for hop, (compute, queue) in zip(measured.route, samples.hop_ms(), strict=True)
        ]
        return Result(
            model=remote.checkpoint.name,
            dtype=str(remote.head.dtype).removeprefix("torch."),
            quantize=None,
            threads=None,
            prompt_len=plan.prompt_len,
            decode_tokens_per_second=samples.decode_rate,
            first_token_ms=statistics.median(samples.first_token) * 1e3,
            prefill_tokens_per_second=plan.prompt_len / statistics.median(samples.prefill),
            aggregate=samples.aggregates(),
            hops=hops,
            step=samples.step(),
            links=_links([hop.name for hop in hops], measured.bytes_per_token),
            memory=memory,
            reference=samples.reference(plan.prompt_len) if self._beside_plain else None,
            recoveries=measured.recoveries,
        )

    async def _bandwidth(
        self, checkpoint: Checkpoint, quantize: str | None, result: Result
    ) -> Bandwidth | None:
        """What reading the weights takes: the peers read one after the other, as fast as we do."""
        dtype = self._source.options.torch_dtype
        needed = bandwidth.bytes_per_token(checkpoint.config, dtype, quantize)
        if needed is None:
            return None
        self._say("Measuring the memory", None)
        rate = await asyncio.to_thread(bandwidth.read_bandwidth)
        seconds = needed / rate
        return Bandwidth(
            gigabytes_per_second=rate / 1e9,
            megabytes_per_token=needed / 1e6,
            limit_ms=seconds * 1e3,
            limit_tokens_per_second=1 / seconds,
            fraction=seconds * result.decode_tokens_per_second,
        )


def _names(announcements: Sequence[Announcement]) -> dict[str, str]:
    return {entry.peer: entry.name for entry in announcements}


def _links(hops: Sequence[str], counted: Sequence[float]) -> list[LinkBytes]:
    """Each link's bytes, in the order of the route.

    A member of a route sends to the next one only. Those of others tell nobody how much they send:
    what goes from hop to hop is what we send to the first, and a little more in the header.
    """
    members = [CLIENT, *hops, CLIENT]
    if len(counted) == len(members):
        senders, measured = list(counted[:-2]), True
    else:
        senders = [counted[0] + _HOP_TIME_BYTES * index for index in range(len(hops))]
        measured = False
    each = [*senders, counted[-1]]
    last = len(each) - 1
    return [
        LinkBytes(members[index], members[index + 1], size, measured or index in (0, last))
        for index, size in enumerate(each)
    ]
