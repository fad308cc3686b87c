"""Whole swarms in one process, over the in-memory twins, with tiny random models."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.client import RemoteModel, RowInput, Session, SpeculationConfig, Swarm
from swarm.client.auditing.config import AuditConfig
from swarm.client.config import SessionConfig
from swarm.client.head import Head
from swarm.client.model import Reply
from swarm.client.sampling import SamplingConfig
from swarm.directory.memory import MemoryDirectory, Registry
from swarm.member import Member
from swarm.membership.founder import Founder
from swarm.membership.membership import Membership
from swarm.peer.config import PeerConfig
from swarm.peer.handler import HandlerConfig
from swarm.peer.pausing import Pauses
from swarm.peer.runner import Runner
from swarm.peer.service import Peer, serving
from swarm.peer.standby import Standby
from swarm.transport import Buffer
from swarm.transport.control import Place
from swarm.transport.link import LinkConfig
from swarm.transport.memory import MemoryTransport, Network
from swarm.transport.relay_config import RelayConfig
from swarm.transport.relayed import RelayedConfig, RelayedTransport
from swarm.wire.messages import AnyMessage, decode

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()

NUM_BLOCKS = 4

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": NUM_BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 300,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}

ABSENT = "absent"


@pytest.fixture(scope="session", autouse=True)
def _light_garbage() -> Iterator[None]:
    """Peers collect garbage when they leave: libraries' objects need not be looked at each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@dataclass(frozen=True)
class Tiny:
    """A tiny random model on disk, and the same in transformers."""

    folder: Path
    reference: Any

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """The tokens that transformers' own greedy search adds."""
        given = torch.tensor([ids])
        with torch.no_grad():
            # With a mask, as transformers else takes every 0 for padding.
            out = self.reference.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
            )
        return out[0, len(ids) :].tolist()

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Logits `[n, vocab_size]` of one whole forward pass."""
        with torch.no_grad():
            return self.reference(torch.tensor([list(ids)])).logits[0]


def _make_tiny(folder: Path, model_type: str, **changes: Any) -> Tiny:
    torch.manual_seed(0)
    shape = {name: value for name, value in {**SHAPE, **changes}.items() if value != ABSENT}
    config = AutoConfig.for_model(model_type, **shape)
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
    made: dict[str, Tiny] = {}

    def make(model_type: str = "llama", **changes: Any) -> Tiny:
        key = str((model_type, *sorted(changes.items(), key=str)))
        if key not in made:
            made[key] = _make_tiny(tmp_path_factory.mktemp(model_type), model_type, **changes)
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny: Callable[..., Tiny]) -> Tiny:
    """A tiny llama."""
    return make_tiny("llama")


class MortalDirectory(MemoryDirectory):
    """Says nothing while its member is silent: not yet known, or dead."""

    silent = False

    async def announce(self, *args: Any) -> None:
        if not self.silent:
            await super().announce(*args)

    async def withdraw(self) -> None:
        if not self.silent:
            await super().withdraw()


@dataclass(frozen=True)
class Frame:
    """One frame that somebody sent."""

    sender: str
    receiver: str
    message: AnyMessage
    size: int


@dataclass
class Watch:
    """Sees every frame in the network and decides on its fate."""

    frames: list[Frame] = field(default_factory=list)
    drops: Callable[[Frame], bool] = lambda frame: False

    def __call__(self, sender: str, receiver: str, header: bytes, payload: Buffer) -> bool:
        frame = Frame(sender, receiver, decode(header), len(header) + len(payload))
        self.frames.append(frame)
        return self.drops(frame)

    def count(self, kind: type[AnyMessage]) -> Counter[tuple[str, str]]:
        """How many messages of one kind went from whom to whom."""
        kept = (frame for frame in self.frames if isinstance(frame.message, kind))
        return Counter((frame.sender, frame.receiver) for frame in kept)


@dataclass
class World:
    """A group in a simulated network, for one model."""

    tiny: Tiny
    checkpoint: Checkpoint
    stack: contextlib.AsyncExitStack
    network: Network = field(default_factory=Network)
    registry: Registry = field(default_factory=Registry)
    founder: Founder = field(init=False)
    peers: dict[str, Peer] = field(default_factory=dict)
    swarms: dict[str, Swarm] = field(default_factory=dict)
    directories: dict[str, MortalDirectory] = field(default_factory=dict)
    link_config: LinkConfig = field(
        default_factory=lambda: LinkConfig(0.1, 0.6, 0.05, 0.2, handshake=2.0)
    )
    relays: dict[str, RelayedTransport] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.founder = self.found("group")

    def found(self, name: str) -> Founder:
        """A new group."""
        return Founder(self.network.signer(name), self.network.signer(f"{name}'s authority"))

    def member(
        self, name: str, *, silent: bool = False, membership: Membership | None = None
    ) -> Member:
        """Somebody new in the group."""
        transport = self.network.transport(name)
        self.stack.push_async_callback(transport.aclose)
        self.directories[name] = MortalDirectory(self.registry, name)
        self.directories[name].silent = silent
        membership = membership or self.founder.admit(transport.signer)
        return Member(transport, self.directories[name], membership)

    async def relayed(self, member: Member, config: RelayedConfig | None = None) -> Member:
        """The same member with relays, as outside the twin."""
        carrier = member.transport
        assert isinstance(carrier, MemoryTransport)
        entries = await self.entries()
        context = RelayedTransport.start(
            carrier, member.membership, entries, config, link_config=self.link_config
        )
        transport = await self.stack.enter_async_context(context)
        transport.follow(self.entries)
        return replace(member, transport=transport)

    async def relay(self, name: str, config: RelayConfig | None = None) -> RelayedTransport:
        """Somebody who relays, as a bootstrap does."""
        config = config or RelayConfig()
        settings = RelayedConfig(listens=False, always_relays=True, relay=config)
        transport = (await self.relayed(self.member(name), settings)).transport
        assert isinstance(transport, RelayedTransport)
        self.relays[name] = transport
        return transport

    async def entries(self) -> list[Place]:
        """Where relays are found."""
        return [Place(name, relay.carrier.addresses) for name, relay in self.relays.items()]

    async def peer(
        self,
        name: str,
        blocks: tuple[int, int] | None,
        handler_config: HandlerConfig | None = None,
        silent: bool = False,
        hidden: bool = False,
        pauses: Pauses | None = None,
        standby: Standby | None = None,
        **options: Any,
    ) -> Peer:
        """Starts a peer; it serves when this returns.

        A silent one is found only after `show`; a hidden one is reached through relays only. Where
        there are relays, everybody uses them who needs them.
        """
        settings = {
            "device": "cpu",
            "dtype": "float32",
            "threads": 1,
            "kv_memory": 4 << 20,
            "page_len": 8,
            # On the thread, so that time passes for others while something is computed.
            "brief": 0.0,
            **options,
        }
        config = PeerConfig(name=name, blocks=blocks, **settings)
        member = self.member(name, silent=silent)
        if hidden:
            self.network.hide(name)
        if self.relays:
            member = await self.relayed(member)
        context = serving(
            member,
            self.checkpoint,
            config,
            link_config=self.link_config,
            handler_config=handler_config,
            pauses=pauses,
            standby=standby,
        )
        peer = await self.stack.enter_async_context(context)
        self.peers[name] = peer
        return peer

    async def chain(self, *borders: int, **options: Any) -> list[Peer]:
        """Starts peers `peer-0`, `peer-1`, … for the spans between `borders`."""
        spans = list(pairwise(borders))
        return [await self.peer(f"peer-{i}", span, **options) for i, span in enumerate(spans)]

    async def spare(self, *spans: tuple[int, int]) -> None:
        """Starts peers that nobody finds before `show` or the first `kill`."""
        for start, end in spans:
            await self.peer(f"spare-{start}:{end}", (start, end), silent=True)

    async def show(self) -> None:
        """Lets silent peers announce themselves."""
        for name, peer in self.peers.items():
            if self.directories[name].silent:
                self.directories[name].silent = False
                await peer._announce()

    async def kill(self, name: str) -> None:
        """kill -9: the peer vanishes, its announcement stays until it expires.

        Spares are found from now on.
        """
        await self.show()
        self.directories[name].silent = True
        self.peers.pop(name, None)
        self.swarms.pop(name, None)
        await self.network.kill(name)

    async def leave(self, name: str) -> None:
        """SIGTERM: the peer leaves politely; returns when it is gone."""
        peer = self.peers.pop(name)
        await peer.leave()
        await peer.aclose()
        await self.network.kill(name)

    def patient(self, name: str, seconds: float) -> PeerConfig:
        """A peer's config with another `leave_patience`."""
        return replace(self.peers[name].config, leave_patience=seconds)

    def watch(self) -> Watch:
        """Watches the network from now on."""
        self.network.drop = watch = Watch()
        return watch

    async def client(
        self,
        name: str = "client",
        config: SessionConfig | None = None,
        dtype: Any = torch.float32,
        hidden: bool = False,
        **options: Any,
    ) -> RemoteModel:
        """Somebody who asks; the head is loaded. A hidden one finds others through relays.

        Peers commit themselves to what they do, but what they do is checked only on demand.
        """
        options = {"audit_config": AuditConfig(rate=1e-9), **options}
        member = self.member(name)
        if hidden:
            self.network.hide(name)
        if self.relays:
            member = await self.relayed(member, RelayedConfig(listens=False))
        context = Swarm.over(member, session_config=config, link_config=self.link_config, **options)
        swarm = self.swarms[name] = await self.stack.enter_async_context(context)
        return swarm.remote(self.checkpoint, Head.load(self.checkpoint, dtype))

    def leftovers(self) -> list[str]:
        """What sessions have left behind at living peers and clients."""
        found = []
        for name, peer in self.peers.items():
            hosting = peer.hosting
            if hosting is None:
                continue
            handler, leases, pages = hosting.handler, hosting.leases, hosting.runner.pages
            engine, kept = hosting._engine, hosting.kept
            counts = {
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
            found += [f"{name}: {number} {what}" for what, number in counts.items() if number]
        for name, swarm in self.swarms.items():
            if receivers := swarm._exchange._receivers:
                found.append(f"{name}: {len(receivers)} receivers")
        return found

    async def settle(self, seconds: float = 5.0) -> None:
        """Waits until nothing is left of any session; `AssertionError` names what stays."""
        gc.collect()  # Ends the sessions of caches that nobody holds any more.
        await self.until(lambda: not self.leftovers(), seconds, self.leftovers)

    async def until(
        self,
        holds: Callable[[], Any],
        seconds: float = 5.0,
        describe: Callable[[], object] = lambda: "it did not come about",
    ) -> None:
        """Waits (in simulated time) until something holds."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not holds():
            assert asyncio.get_running_loop().time() < deadline, describe()
            await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def bare_world() -> type[World]:
    """Worlds for those who end them themselves."""
    return World


def _even_speed(runner: Runner) -> tuple[float, float]:
    num_blocks = runner.span.end - runner.span.start
    return 0.004 * num_blocks, 0.0004 * num_blocks


@pytest.fixture
async def make_world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[Tiny], World]]:
    """Makes worlds; after the test each must be clean, and is then ended.

    Peers announce the same speed per block, whatever else this machine does: routes follow from
    that.
    """
    monkeypatch.setattr(Runner, "measure", _even_speed)
    worlds: list[World] = []
    async with contextlib.AsyncExitStack() as stack:

        def make(tiny: Tiny) -> World:
            checkpoint = stack.enter_context(open_checkpoint(str(tiny.folder)))
            worlds.append(World(tiny, checkpoint, stack))
            return worlds[-1]

        yield make
        for world in worlds:
            await world.settle()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left


@pytest.fixture
async def world(make_world: Callable[[Tiny], World], tiny: Tiny) -> World:
    """A world for the tiny llama, empty."""
    return make_world(tiny)


@dataclass
class Asker:
    """Greedy generation through the swarm by token ids, without any tokenizer."""

    model: RemoteModel
    reply: Reply = field(default_factory=lambda: Reply([]))
    # Which guesses are sent goes by the time that steps take: tests that count steps send none.
    speculation: SpeculationConfig = field(default_factory=lambda: SpeculationConfig(0))

    async def greedy(
        self,
        ids: Sequence[int],
        count: int,
        on_token: Callable[[int], Any] | None = None,
    ) -> list[int]:
        """`count` greedy tokens; awaits `on_token(how many there are)` after each."""
        self.reply = Reply(list(ids))
        return await self.resume(count, on_token)

    async def resume(self, count: int, on_token: Callable[[int], Any] | None = None) -> list[int]:
        """Goes on with the reply until it has `count` tokens."""
        sampling = SamplingConfig(max_new_tokens=count, ignore_eos=True)
        async with self.model.session() as session:
            tokens = self.model._tokens(session, self.reply, sampling, self.speculation)
            async for _ in tokens:
                if on_token is not None:
                    await on_token(len(self.reply.ids))
        return self.reply.ids

    async def logits(
        self, session: Session, ids: Sequence[int], position: int, row: int = 0
    ) -> torch.Tensor:
        """Logits `[n, vocab_size]` of new tokens of one row."""
        from swarm.wire.messages import Want

        hidden = self.model.head.embed(torch.tensor(list(ids), dtype=torch.long))
        (out,) = await session.step([RowInput(row, position, hidden)], Want.ALL)
        return self.model.head.logits(out)


@pytest.fixture(scope="session")
def asker() -> type[Asker]:
    """Asks a model: `await asker(model).greedy(ids, count)`."""
    return Asker
