"""Whole swarms in one process, over the in-memory twins, with tiny random models."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.client import RemoteModel, Swarm
from swarm.client.config import SessionConfig
from swarm.client.head import Head
from swarm.directory.memory import Registry
from swarm.group import Group
from swarm.member import Member
from swarm.peer.config import PeerConfig
from swarm.peer.service import Peer, serving
from swarm.transport.link import LinkConfig
from swarm.transport.memory import Network

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()

NUM_BLOCKS = 4

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": NUM_BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}


@dataclass(frozen=True)
class Tiny:
    """A tiny random model on disk, and the same in transformers."""

    folder: Path
    reference: Any

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """The tokens that transformers' own greedy search adds."""
        with torch.no_grad():
            out = self.reference.generate(
                torch.tensor([ids]), max_new_tokens=count, do_sample=False, pad_token_id=0
            )
        return out[0, len(ids) :].tolist()


def _make_tiny(folder: Path, model_type: str, **changes: Any) -> Tiny:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**SHAPE, **changes})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for weight in model.parameters():
            # Larger than an initialisation, so that tokens depend on everything before them.
            noise = torch.randn_like(weight)
            weight.copy_(0.08 * noise if weight.dim() > 1 else weight + 0.05 * noise)
    model.save_pretrained(folder)
    return Tiny(folder, model)


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tiny]:
    """Makes a tiny model of an architecture, once."""
    made: dict[tuple[Any, ...], Tiny] = {}

    def make(model_type: str = "llama", **changes: Any) -> Tiny:
        key = (model_type, *sorted(changes.items(), key=str))
        if str(key) not in made:
            folder = tmp_path_factory.mktemp(model_type)
            made[str(key)] = _make_tiny(folder, model_type, **changes)
        return made[str(key)]

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny: Callable[..., Tiny]) -> Tiny:
    """A tiny llama."""
    return make_tiny("llama")


@dataclass
class World:
    """A group in a simulated network, for one model."""

    checkpoint: Checkpoint
    stack: contextlib.AsyncExitStack
    network: Network = field(default_factory=Network)
    registry: Registry = field(default_factory=Registry)
    group: Group = field(default_factory=lambda: Group.create("test"))
    peers: dict[str, Peer] = field(default_factory=dict)
    link_config: LinkConfig = LinkConfig(interval=0.1, patience=0.6, handshake=2.0)
    peer_defaults: dict[str, Any] = field(default_factory=dict)

    def member(self, name: str) -> Member:
        """Somebody new in the group."""
        transport = self.network.transport(name)
        return Member(transport, self.registry.directory(name), self.group)

    async def peer(self, name: str, blocks: tuple[int, int] | None, **options: Any) -> Peer:
        """Starts a peer; it serves when this returns."""
        settings = {
            "device": "cpu",
            "dtype": "float32",
            "threads": 1,
            "kv_memory": 4 << 20,
            "page_len": 8,
            **self.peer_defaults,
            **options,
        }
        config = PeerConfig(name=name, blocks=blocks, **settings)
        context = serving(self.member(name), self.checkpoint, config, link_config=self.link_config)
        peer = await self.stack.enter_async_context(context)
        self.peers[name] = peer
        return peer

    async def kill(self, name: str) -> None:
        """kill -9: the peer vanishes, its announcement stays until it expires."""
        await self.network.kill(name)

    async def client(
        self, name: str = "client", config: SessionConfig | None = None, dtype: Any = torch.float32
    ) -> RemoteModel:
        """Somebody who asks; the head is loaded."""
        context = Swarm.over(self.member(name), session_config=config, link_config=self.link_config)
        swarm = await self.stack.enter_async_context(context)
        model = swarm.remote(self.checkpoint, Head.load(self.checkpoint, dtype))
        model.swarm = swarm  # type: ignore[attr-defined]
        return model


@pytest.fixture
async def make_world() -> AsyncIterator[Callable[[Tiny], World]]:
    """Makes worlds, and ends them after the test."""
    async with contextlib.AsyncExitStack() as stack:

        def make(tiny: Tiny) -> World:
            checkpoint = stack.enter_context(open_checkpoint(str(tiny.folder)))
            return World(checkpoint, stack)

        yield make


@pytest.fixture
async def world(make_world: Callable[[Tiny], World], tiny: Tiny) -> World:
    """A world for the tiny llama, empty."""
    return make_world(tiny)


async def _continue(model: RemoteModel, ids: list[int], count: int) -> list[int]:
    """Greedy tokens through the swarm, without any tokenizer."""
    from swarm.client.model import Reply
    from swarm.client.sampling import SamplingConfig

    reply = Reply(list(ids))
    sampling = SamplingConfig(max_new_tokens=count, ignore_eos=True)
    async with model.session() as session:
        async for _ in model._tokens(session, reply, sampling):
            pass
    return reply.ids


@pytest.fixture(scope="session")
def greedy() -> Callable[..., Any]:
    """`await greedy(model, ids, count)`: greedy tokens through the swarm."""
    return _continue
