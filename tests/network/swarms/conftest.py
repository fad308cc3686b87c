"""Swarms of `swarm` commands on the internet that the folder above builds."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SWARM = [sys.executable, "-m", "swarm.cli"]


@dataclass
class Group:
    """A private swarm of `swarm` commands on hosts of an internet."""

    model: Path
    invite: str = ""
    peers: dict[str, Any] = field(default_factory=dict)
    """Hosts of the peers that have served, by peer id."""

    def bootstrap(self, host: Any, *options: str) -> Any:
        """Starts a bootstrap and keeps its invite."""
        folder = str(host.folder / "bootstrap")
        started = host.popen([*SWARM, "bootstrap", "--dir", folder, *options])
        self.invite = started.line()
        return started

    def start_peer(self, host: Any, blocks: str, *options: str) -> Any:
        """Starts a peer, which is called as its host."""
        quick = ["--dtype", "float32", "--threads", "1", "--kv-memory", "64MB"]
        own = ["--blocks", blocks, "--name", host.name]
        return host.popen([*SWARM, "peer", *self._asked, *own, *quick, *options])

    def serve(self, spans: dict[Any, str], *options: str) -> dict[Any, Any]:
        """Starts peers; returns when all of them serve."""
        started = {host: self.start_peer(host, span, *options) for host, span in spans.items()}
        for host, program in started.items():
            self.peers[program.line().split()[-1]] = host
        return started

    def status(self, host: Any) -> dict[str, dict[str, Any]]:
        """What `swarm status` says of the peers, by name, seen from `host`."""
        done = host.run([*SWARM, "status", "--join", self.invite, "--json"])
        assert done.returncode == 0, done.stderr
        (model,) = json.loads(done.stdout)["models"]
        return {peer["name"]: peer for peer in model["peers"]}

    def ask(self, host: Any, prompt: str, num_tokens: int) -> dict[str, Any]:
        """`swarm run`: the whole reply."""
        limits = ["--raw", "--dtype", "float32", "--max-tokens", str(num_tokens), "--json"]
        done = host.run([*SWARM, "run", *self._asked, *limits, prompt])
        assert done.returncode == 0, done.stderr
        reply: dict[str, Any] = json.loads(done.stdout)
        return reply

    def start_asking(self, host: Any, prompt: str, num_tokens: int) -> Asking:
        """A reply that is watched while it comes."""
        arguments = [self.invite, str(self.model), prompt, str(num_tokens)]
        return Asking(host.popen([sys.executable, "-c", ASKING, *arguments]), self.peers)

    @property
    def _asked(self) -> list[str]:
        return ["--join", self.invite, "--model", str(self.model), "--cache", f"{self.model}-cache"]


ASKING = """
import asyncio, json, sys
from pathlib import Path
from swarm.client import ModelOptions, SamplingConfig, Swarm

async def ask(invite, name, prompt, num_tokens):
    async with Swarm.join(invite) as swarm:
        options = ModelOptions(dtype="float32", cache_dir=Path(f"{name}-cache"))
        model = await swarm.model(name, options)
        reply = await model.prepare(prompt, raw=True)
        sampling = SamplingConfig(max_new_tokens=int(num_tokens), ignore_eos=True)
        async for _ in model.reply(reply, sampling):
            tell(reply)
        tell(reply)

def tell(reply):
    route = [hop.peer for hop in reply.route]
    seen = {"prompt_ids": reply.prompt_ids, "ids": reply.ids, "route": route}
    print(json.dumps({**seen, "recoveries": reply.num_recoveries}), flush=True)

asyncio.run(ask(*sys.argv[1:]))
"""
"""Tells after each piece of text what is known of the reply."""


@dataclass
class Asking:
    """A client in the middle of a reply."""

    program: Any
    peers: dict[str, Any]
    longest_pause: float = 0.0
    """Seconds in which no token came, since the first one."""

    _last: float = 0.0

    def until(self, num_tokens: int) -> dict[str, Any]:
        """What is known once so many tokens have come: `prompt_ids`, `ids`, `route` (hosts)…"""
        while True:
            told: dict[str, Any] = json.loads(self.program.line())
            now = time.monotonic()
            if self._last:
                self.longest_pause = max(self.longest_pause, now - self._last)
            self._last = now
            if len(told["ids"]) >= num_tokens:
                told["route"] = [self.peers[peer] for peer in told["route"]]
                return told


@pytest.fixture(scope="session")
def model_folder(
    model_file: Path, plain_model: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The demonstration model as safetensors: a GGUF file takes every client seconds to read."""
    from swarm.checkpoint import open_checkpoint
    from swarm.checkpoint.quiet import quiet

    above = tmp_path_factory.mktemp("model")
    folder = above / "weights"
    try:
        with open_checkpoint(str(model_file)) as checkpoint, quiet():
            checkpoint.tokenizer().save_pretrained(folder)
            plain_model.save_pretrained(folder)
        # Remembers the files' checksums, for everybody.
        open_checkpoint(str(folder), cache_dir=above / "weights-cache").close()
        yield folder
    finally:
        shutil.rmtree(above)


@pytest.fixture
def group(model_folder: Path) -> Group:
    """A swarm of nobody yet."""
    return Group(model_folder)
