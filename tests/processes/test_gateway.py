"""`swarm serve` as people run it, asked by raw HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

PROMPT = "The three most important things about a swarm are"
STORY = {"role": "user", "content": "Tell a very long story about a swarm of bees."}

LONG = 60.0
"""Seconds that nothing takes, however busy the machine is."""

SOON = 10.0
"""Seconds, in which a busy machine lets go of an answer that it would write for far longer."""


class Gateway:
    """A gateway over one peer, and what both hold."""

    def __init__(self, processes: Any, client: aiohttp.ClientSession, url: str) -> None:
        self.processes = processes
        self.client = client
        self.url = url

    def post(self, path: str, **body: Any) -> Any:
        return self.client.post(f"{self.url}{path}", json={"model": "smol", **body})

    async def census(self, name: str) -> dict[str, int]:
        """What a process says that it holds, asked now."""
        return dict(await asyncio.to_thread(self.processes.census, name))

    async def waits(self, number: int, seconds: float = LONG) -> None:
        """Waits until so many requests wait for their turn."""
        async with asyncio.timeout(seconds):
            while True:
                if (await self.census("gateway"))["waiting"] == number:
                    return
                await asyncio.sleep(0.02)

    async def released(self) -> None:
        """Waits until peer and gateway hold nothing of any request, which is soon."""
        deadline = time.monotonic() + SOON
        while True:
            peer, gateway = await self.census("one"), await self.census("gateway")
            held = (peer["sessions"], peer["leased_pages"], gateway["requests"], gateway["places"])
            if not any(held):
                return
            assert time.monotonic() < deadline, (peer, gateway)


@pytest.fixture
async def gateway(processes: Any) -> AsyncIterator[Gateway]:
    processes.bootstrap()
    processes.peers(one="0:30")
    options = ["--model", f"smol={processes.model}", "--dtype", "float32", "--threads", "1"]
    options += ["--port", "0", "--most-running", "1", "--drain", "1"]
    processes.start("gateway", "serve", "--join", processes.invite, *options)
    line = await asyncio.to_thread(processes.line, "gateway")
    assert line.startswith("serving smol at http://127.0.0.1:")
    async with aiohttp.ClientSession() as client:
        yield Gateway(processes, client, line.rpartition(" ")[2].removesuffix("/v1"))


async def test_a_gateway_from_beginning_to_end(gateway: Gateway, greedy: Any) -> None:
    from swarm.checkpoint import open_checkpoint

    async with gateway.client.get(f"{gateway.url}/health") as answer:
        assert answer.status == 200
        assert (await answer.json())["models"] == {"smol": {"has_route": True, "missing": []}}

    with open_checkpoint(str(gateway.processes.model)) as checkpoint:
        tokenizer = checkpoint.tokenizer()
        expected = tokenizer.decode(greedy(tokenizer(PROMPT)["input_ids"], 24))
    body = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    async with gateway.post("/v1/completions", **body) as answer:
        assert answer.status == 200, await answer.text()
        (choice,) = (await answer.json())["choices"]
        assert choice["text"] == expected
    async with gateway.post("/v1/completions", **body, stream=True) as answer:
        lines = [line.decode().strip() async for line in answer.content]
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events.pop() == "[DONE]"
    texts = [each["text"] for event in events for each in json.loads(event)["choices"]]
    assert "".join(texts) == expected and len(texts) > 5

    await _disconnects(gateway)
    await _key(gateway)
    await _stop(gateway)


async def _disconnects(gateway: Gateway) -> None:
    """While it is answered, and while it waits for its turn: soon nothing is left."""
    chat = {"messages": [STORY], "max_tokens": 2000}
    running = await gateway.post("/v1/chat/completions", **chat, stream=True)
    await running.content.readline()
    waiting = asyncio.ensure_future(gateway.post("/v1/messages", **chat).__aenter__())
    await gateway.waits(1)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await gateway.waits(0, SOON)
    running.close()
    await gateway.released()


async def _key(gateway: Gateway) -> None:
    """The first key is asked for at once, and holds until it is revoked."""
    made = await asyncio.to_thread(gateway.processes.command, "serve", "keys", "add", "me")
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    url = f"{gateway.url}/v1/models"
    async with gateway.client.get(url) as refused, gateway.client.get(url, headers=headers) as told:
        assert (refused.status, told.status) == (401, 200)
    await asyncio.to_thread(gateway.processes.command, "serve", "keys", "revoke", "me")
    async with gateway.client.get(url, headers=headers) as refused:
        assert refused.status == 401


async def _stop(gateway: Gateway) -> None:
    """Ctrl-C: what runs is told that it ends, and the command is done."""
    gateway.processes.signal("gateway", signal.SIGINT)
    assert await asyncio.to_thread(gateway.processes.wait, "gateway") == 0
    assert (await gateway.census("one"))["sessions"] == 0


async def test_what_runs_when_it_is_stopped_ends_with_a_reason(gateway: Gateway) -> None:
    chat = {"messages": [STORY], "max_tokens": 4000, "temperature": 1.5}
    async with gateway.post("/v1/chat/completions", **chat, stream=True) as answer:
        await answer.content.readline()
        gateway.processes.signal("gateway", signal.SIGTERM)
        rest = await answer.content.read()
    events = [line for line in rest.decode().splitlines() if line.startswith("data: ")]
    assert "stopping" in events[-1], events[-1]
    assert await asyncio.to_thread(gateway.processes.wait, "gateway") == 0


def test_a_wrong_invite_and_a_taken_port_are_told_in_a_line(processes: Any) -> None:
    invite = processes.bootstrap()
    wrong = processes.command("serve", "--join", invite[:-8])
    assert wrong.returncode == 1 and len(processes.told(wrong)) == 1
    assert "invite" in wrong.stderr
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        taken = processes.command("serve", "--join", invite, "--port", port)
    assert taken.returncode == 1 and len(processes.told(taken)) == 1
    assert "choose another --port" in taken.stderr
