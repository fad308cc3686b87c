"""The swarm beside plain transformers: decode, prefill, and what a hop costs.

    python benchmarks/against_transformers.py [--model MODEL] [--peers 3] [--json FILE]

Starts a bootstrap and peers with one thread each on this machine, loads the same weights into plain
transformers in this process, and measures both in turns, in one run, in one dtype: machines drift,
ratios hold. The table goes to standard output; `--json -` writes JSON instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.checkpoint.quiet import quiet
from swarm.cli._processes import Processes, running
from swarm.cli.demo import demonstration_model
from swarm.cli.runner import run_async
from swarm.client import ModelOptions, RemoteModel, RowInput, Swarm
from swarm.member import JoinConfig

HOST = "127.0.0.1"


@dataclass
class Samples:
    """Seconds of each repetition, by what was measured; `hops` in seconds per decode step."""

    plain_decode: list[float] = field(default_factory=list)
    swarm_decode: list[float] = field(default_factory=list)
    plain_prefill: list[float] = field(default_factory=list)
    swarm_prefill: list[float] = field(default_factory=list)
    hop_compute: list[float] = field(default_factory=list)
    hop_queue: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    torch.set_num_threads(1)
    samples, num_peers = run_async(_measure(arguments))
    result = _result(samples, arguments, num_peers)
    if arguments.json == "-":
        Console().print_json(json.dumps(result))
        return
    _show(result)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="default: the demonstration model")
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--decode", type=int, default=48, help="decode steps per repetition")
    parser.add_argument("--prefill", type=int, default=512, help="prompt positions")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write JSON too; - for JSON alone")
    arguments = parser.parse_args()
    arguments.model = arguments.model or str(demonstration_model())
    return arguments


async def _measure(arguments: argparse.Namespace) -> tuple[Samples, int]:
    samples = Samples()
    options = ModelOptions(dtype=arguments.dtype)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_checkpoint(arguments.model) as checkpoint,
    ):
        async with running(Path(folder)) as processes:
            invite = await _start(processes, Path(folder), checkpoint, arguments)
            async with Swarm.join(
                invite, JoinConfig(asks=True, host=HOST, map_port=False)
            ) as swarm:
                remote = await swarm.model(arguments.model, options)
                plain = _plain(checkpoint, options.torch_dtype)
                for round_ in range(arguments.rounds + 1):
                    fresh = Samples()
                    num_hops = await _swarm_round(remote, arguments, fresh)
                    await asyncio.to_thread(_plain_round, plain, arguments, fresh)
                    if round_:  # The first warms both up.
                        _add(samples, fresh)
    return samples, num_hops


async def _start(
    processes: Processes, folder: Path, checkpoint: Checkpoint, arguments: argparse.Namespace
) -> str:
    place = ["--host", HOST, "--no-map-port", "--dir"]
    bootstrap = await processes.start("bootstrap", ["bootstrap", *place, str(folder / "bootstrap")])
    invite = await bootstrap.line()
    borders = [checkpoint.num_blocks * n // arguments.peers for n in range(arguments.peers + 1)]
    peers = []
    for number, (start, end) in enumerate(pairwise(borders)):
        options = ["--join", invite, "--model", arguments.model, "--blocks", f"{start}:{end}"]
        options += ["--threads", "1", "--dtype", arguments.dtype, "--kv-memory", "512MB"]
        name = f"peer-{number}"
        peers.append(await processes.start(name, ["peer", *options, *place, str(folder / name)]))
    for peer in peers:
        await peer.line()
    return invite


def _plain(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    state = checkpoint.load_ends(dtype) | checkpoint.load_blocks(0, checkpoint.num_blocks, dtype)
    with quiet(), torch.device("meta"):
        kind = type(AutoModelForCausalLM.from_config(checkpoint.config))
    with quiet():
        return kind.from_pretrained(None, config=checkpoint.config, state_dict=state, dtype=dtype)


async def _swarm_round(remote: RemoteModel, arguments: argparse.Namespace, samples: Samples) -> int:
    ids = _prompt(arguments, remote.head.vocab_size)
    async with remote.session() as session:
        await session.step([RowInput(0, 0, remote.head.embed(ids[:1]))])  # opens the route
        started = time.perf_counter()
        (last,) = await session.step([RowInput(0, 0, remote.head.embed(ids))])
        token = remote.head.logits(last).argmax(-1)
        samples.swarm_prefill.append(time.perf_counter() - started)
        for position in range(len(ids), len(ids) + arguments.decode):
            started = time.perf_counter()
            hidden = remote.head.embed(token)
            embedded = time.perf_counter()
            (last,) = await session.step([RowInput(0, position, hidden)])
            returned = time.perf_counter()
            token = remote.head.logits(last).argmax(-1)
            ended = time.perf_counter()
            samples.swarm_decode.append(ended - started)
            samples.client.append(ended - returned + embedded - started)
            samples.hop_compute.append(sum(hop.compute for hop in session.last_times) / 1e6)
            samples.hop_queue.append(sum(hop.queue for hop in session.last_times) / 1e6)
        return len(session.route)


@torch.inference_mode()
def _plain_round(model: Any, arguments: argparse.Namespace, samples: Samples) -> None:
    torch.set_num_threads(1)
    ids = _prompt(arguments, model.config.vocab_size)[None]
    started = time.perf_counter()
    out = model(ids, use_cache=True, logits_to_keep=1)
    token = out.logits[:, -1].argmax(-1, keepdim=True)
    samples.plain_prefill.append(time.perf_counter() - started)
    for _ in range(arguments.decode):
        started = time.perf_counter()
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        samples.plain_decode.append(time.perf_counter() - started)


def _prompt(arguments: argparse.Namespace, vocab_size: int) -> torch.Tensor:
    """Tokens `[prefill]`; which ones does not matter for the time they take."""
    return torch.arange(arguments.prefill) % (vocab_size // 2) + vocab_size // 4


def _add(samples: Samples, fresh: Samples) -> None:
    for name, values in asdict(fresh).items():
        getattr(samples, name).extend(values)


def _result(samples: Samples, arguments: argparse.Namespace, num_hops: int) -> dict[str, Any]:
    middle = {name: statistics.median(values) for name, values in asdict(samples).items()}
    overhead = [
        (whole - compute - client) / num_hops
        for whole, compute, client in zip(
            samples.swarm_decode, samples.hop_compute, samples.client, strict=True
        )
    ]
    return {
        "model": Path(arguments.model).name,
        "dtype": arguments.dtype,
        "hops": num_hops,
        "threads_each": 1,
        "decode_tokens_per_second": {
            "swarm": 1 / middle["swarm_decode"],
            "transformers": 1 / middle["plain_decode"],
            "ratio": middle["plain_decode"] / middle["swarm_decode"],
        },
        "prefill_tokens_per_second": {
            "swarm": arguments.prefill / middle["swarm_prefill"],
            "transformers": arguments.prefill / middle["plain_prefill"],
            "ratio": middle["plain_prefill"] / middle["swarm_prefill"],
        },
        "decode_step_ms": {
            "whole": middle["swarm_decode"] * 1e3,
            "compute_all_hops": middle["hop_compute"] * 1e3,
            "queue_all_hops": middle["hop_queue"] * 1e3,
            "client": middle["client"] * 1e3,
            "overhead_per_hop": statistics.median(overhead) * 1e3,
        },
    }


def _show(result: dict[str, Any]) -> None:
    table = Table(
        title=f"{result['model']}, {result['dtype']}, {result['hops']} hops, one thread each"
    )
    for column in ("", "swarm", "transformers", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name in ("decode_tokens_per_second", "prefill_tokens_per_second"):
        row = result[name]
        label = name.replace("_", " ").replace(" per second", "/s")
        table.add_row(
            label, f"{row['swarm']:.1f}", f"{row['transformers']:.1f}", f"{row['ratio']:.2f}"
        )
    console = Console()
    console.print(table)
    parts = (
        f"{name.replace('_', ' ')} {value:.2f}" for name, value in result["decode_step_ms"].items()
    )
    console.print("One decode step, ms: " + ", ".join(parts), highlight=False)


if __name__ == "__main__":
    main()
