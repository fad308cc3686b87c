"""A swarm and a gateway in processes of their own, and a program that reads streams from there."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
from losses import Group, Peer

from swarm.cli._processes import Process, Processes, running
from swarm.errors import SwarmError

HOST = "127.0.0.1"
NAME = "bench"
"""What the model is called at the gateway."""

_LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Plan:
    """What is started: peers with these blocks and a thread each, all with the model in `dtype`.

    The gateway lets in keys of these names. `options` are more for `swarm serve`.
    """

    model: str
    spans: Sequence[tuple[int, int]]
    dtype: str
    keys: Sequence[str] = ("alone",)
    options: Sequence[str] = ()


@dataclass
class Stage:
    """All of it, running. Made by `staged`."""

    invite: str
    group: Group
    peers: list[Peer]
    gateway: Process
    url: str
    keys: dict[str, str]


@asynccontextmanager
async def staged(plan: Plan, folder: Path) -> AsyncIterator[Stage]:
    """Starts it for the length of the block; logs and identities are in `folder`, which exists."""
    async with running(folder) as processes:
        arguments = ["bootstrap", "--dir", str(folder / "bootstrap"), "--host", HOST]
        bootstrap = await processes.start("bootstrap", [*arguments, "--no-map-port"])
        invite = await bootstrap.line()
        peers = [_peer(plan, span, invite, folder) for span in plan.spans]
        group = Group(processes, peers)
        await group.start()
        keys = {name: secrets.token_urlsafe(24) for name in plan.keys}
        gateway = await _gateway(plan, processes, invite, keys, folder)
        url = (await gateway.line()).split()[-1]
        yield Stage(invite, group, peers, gateway, url, keys)


def _peer(plan: Plan, span: tuple[int, int], invite: str, folder: Path) -> Peer:
    name = f"peer-{span[0]}-{span[1]}"
    arguments = ["-v", "peer", "--join", invite, "--model", plan.model]
    arguments += ["--blocks", f"{span[0]}:{span[1]}", "--dtype", plan.dtype, "--threads", "1"]
    arguments += ["--kv-memory", "512MB", "--name", name, "--dir", str(folder / name)]
    return Peer(name, [*arguments, "--host", HOST, "--no-map-port"])


async def _gateway(
    plan: Plan, processes: Processes, invite: str, keys: dict[str, str], folder: Path
) -> Process:
    arguments = ["-v", "serve", "--model", f"{NAME}={plan.model}", "--port", "0"]
    arguments += ["--dtype", plan.dtype, "--threads", "1", *plan.options]
    environment = {
        "HOMESWARM_INVITE": invite,
        "HOMESWARM_API_KEY": " ".join(f"{name}={key}" for name, key in keys.items()),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    return await processes.start("gateway", arguments, environment)


@dataclass
class Heard:
    """One answer as it came: when each part of its text, and why it broke off, if it did.

    Times in seconds; `status` is 0 where there was no answer at all.
    """

    asked: float
    status: int = 0
    parts: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    chances: list[dict[str, Any]] = field(default_factory=list)
    num_tokens: int = 0
    done: bool = False
    problem: str = ""

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self.parts)

    @property
    def refused(self) -> bool:
        """Whether it never began, as the gateway has too much to do or no route."""
        return self.status in (429, 503)


async def ask(
    session: aiohttp.ClientSession, url: str, key: str, prompt: str, **more: Any
) -> Heard:
    """Has the gateway answer in a stream; whatever goes wrong is told in the result."""
    messages = [{"role": "user", "content": prompt}]
    usage = {"include_usage": True}
    body = {"model": NAME, "messages": messages, "stream": True, "stream_options": usage, **more}
    heard = Heard(time.perf_counter())
    try:
        async with session.post(
            f"{url}/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}
        ) as response:
            heard.status = response.status
            if response.status != 200:
                heard.problem = f"status {response.status}: {(await response.text())[:200]}"
                return heard
            async for line in response.content:
                _read(heard, line)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        heard.problem = f"{type(error).__name__}: {error}"
    if not heard.done and not heard.problem:
        heard.problem = "ended in the middle"
    return heard


def _read(heard: Heard, line: bytes) -> None:
    if not line.startswith(b"data: "):
        return
    data = line[6:].strip()
    if data == b"[DONE]":
        heard.done = True
        return
    chunk = json.loads(data)
    if "error" in chunk:
        heard.problem = str(chunk["error"])[:200]
        return
    if usage := chunk.get("usage"):
        heard.num_tokens = usage["completion_tokens"]
    for choice in chunk["choices"]:
        if text := choice["delta"].get("content"):
            heard.parts.append(text)
            heard.times.append(time.perf_counter())
        if logprobs := choice.get("logprobs"):
            heard.chances += logprobs["content"]


def client() -> aiohttp.ClientSession:
    """One for many streams at once, which waits as long as it takes."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None),
        connector=aiohttp.TCPConnector(limit=0),
        read_bufsize=_LONGEST_LINE,
    )


def overlapping(num_blocks: int, num_peers: int) -> list[tuple[int, int]]:
    """Spans of which any one can be lost: the whole model, and all others in parts of it."""
    if num_peers < 3:
        raise SwarmError("it takes three peers to lose one")
    return [(0, num_blocks), *in_parts(num_blocks, num_peers - 1)]


def in_parts(num_blocks: int, num_peers: int) -> list[tuple[int, int]]:
    """Spans one behind the other: whoever is lost is missing until it is back."""
    borders = [num_blocks * part // num_peers for part in range(num_peers + 1)]
    return list(pairwise(borders))
