"""A peer with a tiny model over the twins, an honest client, and what is left when all are gone."""

from __future__ import annotations

import asyncio
import atexit
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.client import RemoteModel, Reply, SamplingConfig, SpeculationConfig, Swarm
from swarm.client.config import SessionConfig
from swarm.client.head import Head
from swarm.directory.memory import Registry
from swarm.member import Member
from swarm.membership.founder import Founder
from swarm.peer import devices, taking
from swarm.peer.config import PeerConfig
from swarm.peer.handler import HandlerConfig
from swarm.peer.runner import Runner
from swarm.peer.service import Peer, serving
from swarm.transport.link import LinkConfig

from .actors import Actors

NAME = "host"
PAGE_LEN = 8
HIDDEN = 32
NUM_BLOCKS = 2
PROMPT = (5, 9, 2, 33, 7)
NUM_TOKENS = 6

_LINKS = LinkConfig(0.25, 1.0, 0.1, 0.4, handshake=2.0)
_PEER = PeerConfig(
    name=NAME,
    blocks=(0, NUM_BLOCKS),
    device="cpu",
    dtype="float32",
    threads=1,
    kv_memory=128 * 1024,
    page_len=PAGE_LEN,
    # On the thread, so that messages come while something is computed.
    brief=0.0,
)
_LIMITS = HandlerConfig(
    history_bytes=1 << 20, session_history_bytes=1 << 18, growth_patience=0.5, max_sessions=16
)
_PATIENT = SessionConfig(chunk_len=4, open_patience=300.0, step_patience=20.0, unit_len=4)


@dataclass(frozen=True)
class Model:
    """A tiny random model, and what it says to the honest client."""

    checkpoint: Checkpoint
    head: Head
    tokens: tuple[int, ...]


@cache
def model() -> Model:
    """The same in all plays."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    plain = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=HIDDEN,
            intermediate_size=48,
            num_hidden_layers=NUM_BLOCKS,
            num_attention_heads=2,
            num_key_value_heads=1,
            vocab_size=64,
            max_position_embeddings=128,
        )
    ).eval()
    with torch.no_grad():
        for weight in plain.parameters():
            weight.normal_(0, 0.1)
        ids = torch.tensor([PROMPT])
        for _ in range(NUM_TOKENS):
            ids = torch.cat([ids, plain(ids).logits[:, -1:].argmax(-1)], 1)
    held = ExitStack()
    atexit.register(held.close)
    folder = held.enter_context(tempfile.TemporaryDirectory())
    plain.save_pretrained(folder)
    checkpoint = held.enter_context(open_checkpoint(folder))
    tokens = tuple(ids[0, len(PROMPT) :].tolist())
    return Model(checkpoint, Head.load(checkpoint, torch.float32), tokens)


@cache
def _span(load: Any, *place: Any, **options: Any) -> Any:
    return load(*place, **options)


@contextmanager
def staged() -> Iterator[None]:
    """Within the block peers load a span once for all plays, and say the same speed each time."""
    load = taking.load
    model()
    with ExitStack() as stack:
        for target, name, instead in (
            (Runner, "measure", lambda self: (0.01, 0.001)),
            (Runner, "check", lambda self: None),
            (taking, "load", lambda *place, **options: _span(load, *place, **options)),
            (devices, "gc", SimpleNamespace(collect=lambda: 0)),
        ):
            if hasattr(target, name):
                stack.enter_context(patch.object(target, name, instead))
        yield


class Host:
    """A group with one peer, for one play."""

    def __init__(self) -> None:
        self.network, self.registry = Actors(), Registry()
        self.founder = Founder(self.network.signer("group"), self.network.signer("authority"))
        self.peer: Peer

    def member(self, name: str) -> Member:
        """Somebody new in the group."""
        transport = self.network.transport(name)
        membership = self.founder.admit(transport.signer)
        return Member(transport, self.registry.directory(name), membership)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Peer]:
        """The peer, for the length of the block."""
        member = self.member(NAME)
        context = serving(
            member, model().checkpoint, _PEER, link_config=_LINKS, handler_config=_LIMITS
        )
        async with context as self.peer:
            yield self.peer
            # Nobody hands anything over: a play is over at once.
            await self.network.kill(NAME)

    async def ask(self) -> tuple[int, ...]:
        """What the honest client is answered."""
        member = self.member("client")
        async with Swarm.over(member, session_config=_PATIENT, link_config=_LINKS) as swarm:
            remote = swarm.remote(model().checkpoint, model().head)
            return tuple(await _greedy(remote, PROMPT, NUM_TOKENS))

    def leftovers(self) -> dict[str, int]:
        """What sessions have left behind."""
        hosting = self.peer.hosting
        assert hosting is not None
        handler, leases, pages = hosting.handler, hosting.leases, hosting.runner.pages
        engine, kept = hosting._engine, hosting.kept
        counts = {
            # One to itself stays: it is as good as any.
            "links": sum(link.peer != NAME for link in self.peer._neighbours._links),
            "sessions": len(handler._sessions),
            "openings": len(handler._openings),
            "leased pages": leases.num_pages - leases.free,
            "waiting requests": leases.num_waiting,
            "used pages": pages.num_pages - pages.free_pages - kept.num_pages,
            "rows": len(pages._rows) - len(kept),
            "steps": len(hosting._scheduler),
            "sessions in the engine": len(engine._sessions) + len(engine._retired),
            "rows to be found": len(engine._recalled),
            "rows to be kept": len(engine._keeping),
        }
        return {what: number for what, number in counts.items() if number}

    async def settle(self) -> None:
        """Waits until nothing is left of anybody; `AssertionError` names what stays."""
        deadline = asyncio.get_running_loop().time() + 10
        while left := self.leftovers():
            assert asyncio.get_running_loop().time() < deadline, left
            await asyncio.sleep(0.05)


async def _greedy(remote: RemoteModel, prompt: Sequence[int], count: int) -> list[int]:
    reply = Reply(list(prompt))
    sampling = SamplingConfig(max_new_tokens=count, ignore_eos=True)
    async with remote.session() as session:
        tokens: Any = remote._tokens(session, reply, sampling, SpeculationConfig(0))
        async for _ in tokens:
            pass
    return reply.ids
