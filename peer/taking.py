"""Taking blocks onto this machine: which and how many, loading them, and giving them back."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from swarm.amounts import gigabytes, megabytes
from swarm.auditing.digests import announced, contested, dissenters, joined
from swarm.checkpoint import Checkpoint
from swarm.checkpoint.progress import Halted, check_halt, halted_by
from swarm.directory import Announcement
from swarm.errors import ConfigError, SwarmError
from swarm.forms import Form, form
from swarm.member import Member

from . import devices, placement
from .config import PeerConfig
from .hosting import num_pages
from .kv_cache import page_bytes
from .load import Speed
from .loading import load, needed_bytes
from .memory import Budget, Memory
from .placement import Reason, Span
from .runner import Runner
from .standby import Standby

logger = logging.getLogger(__name__)

_LOOK = 1.0
"""Seconds between two looks whether blocks that are being loaded are still wanted."""


@dataclass(frozen=True)
class Taken:
    """Blocks that are on this machine now, ready to run, and what they take of it.

    `free` bytes were there before; `weights` and `kv` are what is allowed for each.
    """

    runner: Runner
    speed: Speed
    digests: bytes
    free: int
    weights: int
    kv: int


class Taking:
    """What one machine takes of one checkpoint, for a member of the group.

    Blocks that are in `standby` are taken from there, and put there when they are `left`.
    """

    def __init__(
        self,
        member: Member,
        checkpoint: Checkpoint,
        config: PeerConfig,
        standby: Standby | None = None,
    ) -> None:
        self._member, self._checkpoint, self._config = member, checkpoint, config
        self._standby = standby
        self.device = devices.choose_device(config.device)
        self.dtype = devices.choose_dtype(config.dtype, self.device)
        self.form = form(config.quantize)
        self.total_memory = devices.total_memory(self.device)
        """Bytes of memory of the device."""
        self.budget = Budget(config)
        self.reason = Reason.FIXED
        """Why the blocks that were chosen last are those."""
        devices.bound(self.device, config.max_memory)

    @property
    def widens(self) -> bool:
        """Whether the file has its weights in fewer bits than they are kept in here."""
        return self.form is Form.NONE and bool(self._checkpoint.stored(0, 1, grids=False))

    @property
    def memory(self) -> Memory:
        """What is free on the device, and what this process takes of it, now."""
        return Memory(devices.free_memory(self.device), devices.taken_memory(self.device))

    async def choose(self, last: Span | None = None) -> Span:
        """The blocks to take: as the config says, else those that the swarm needs most.

        `last` are those of the time before. Raises `ConfigError` where they do not fit.
        """
        checkpoint, blocks = self._checkpoint, self._config.blocks
        if blocks is not None and blocks[1] > checkpoint.num_blocks:
            raise ConfigError(
                f"blocks {blocks[0]}:{blocks[1]} of {checkpoint.name}, which has"
                f" {checkpoint.num_blocks}"
            )
        if self._standby is not None:
            # Whether others are needed more now is seen when it serves.
            if (held := self._standby.span(checkpoint.fingerprint)) is not None:
                self.reason = Reason.FIXED if blocks is not None else Reason.LAST
                return held
        each = await asyncio.to_thread(needed_bytes, checkpoint, self.dtype, self.form)
        memory = self.memory
        if blocks is not None:
            self._check_fits(blocks, each, memory)
            return blocks
        allowed = self.budget.weights(memory)
        capacity = allowed // each
        if capacity < 1:
            raise ConfigError(
                f"one block of {checkpoint.name} takes {megabytes(each)};"
                f" this peer may use {megabytes(allowed)} for weights{self._why(memory)}"
            )
        others = await self._member.directory.find(checkpoint.fingerprint)
        others = tuple(entry for entry in others if entry.peer != self._member.peer_id)
        span, self.reason = placement.choose(checkpoint.num_blocks, capacity, others, last)
        return span

    def _check_fits(self, blocks: Span, each: int, memory: Memory) -> None:
        needed, allowed = each * (blocks[1] - blocks[0]), self.budget.fixed(memory)
        if needed > allowed:
            raise ConfigError(
                f"blocks {blocks[0]}:{blocks[1]} of {self._checkpoint.name} take"
                f" {gigabytes(needed)}; {gigabytes(allowed)} are free on"
                f" {self.device}{self._why(memory)}"
            )

    def _why(self, memory: Memory) -> str:
        if not self.budget.limit:
            return ""
        return (
            f" (of at most {megabytes(self.budget.limit)}, the program takes"
            f" {megabytes(memory.taken)}, and {megabytes(self.budget.working)} are for working)"
        )

    async def bring(self, span: Span, unwanted: Callable[[], bool]) -> Taken:
        """Loads blocks, or takes them from where an earlier peer has left them.

        Gives up soon after they are `unwanted`, which is asked every second: raises `Halted`.
        """
        if self._standby is not None:
            held = self._standby.take(self._checkpoint.fingerprint, span)
            if held is not None:
                return held
        halt = threading.Event()
        loading = asyncio.ensure_future(asyncio.to_thread(self.load, span, halt))
        try:
            while not (await asyncio.wait({loading}, timeout=_LOOK))[0]:
                if unwanted():
                    halt.set()
            taken = loading.result()
        except asyncio.CancelledError:
            # The thread goes on until it looks; nobody waits for what it has by then.
            halt.set()
            loading.add_done_callback(_discard)
            raise
        except Halted:
            devices.give_back()
            raise
        if halt.is_set():
            give_up(taken)
            raise Halted
        return taken

    def leave(self, taken: Taken) -> None:
        """Gives blocks up, or leaves them for the next peer."""
        if self._standby is not None:
            self._standby.put(self._checkpoint.fingerprint, taken)
        else:
            give_up(taken)

    def load(self, span: Span, halt: threading.Event) -> Taken:
        """Loads blocks and finds out how fast they are. Blocks; call it in a thread.

        Raises `Halted` soon after `halt` is set.
        """
        with halted_by(halt):
            return self._load(span)

    def _load(self, span: Span) -> Taken:
        config, before = self._config, self.memory
        checkpoint, named = self._checkpoint, "blocks {}:{}".format(*span)
        with checkpoint.wait(f"loading {named}"):
            blocks = load(
                checkpoint,
                *span,
                device=self.device,
                dtype=self.dtype,
                form=self.form,
                frugal=bool(self.budget.limit),
            )
            check_halt()
            digests = joined(checkpoint.digests(*span))
            check_halt()
        loaded = self.memory
        kv_bytes = self.budget.kv(loaded)
        page = page_bytes(blocks.geometry, config.page_len, blocks.dtype)
        runner = Runner(blocks, num_pages=num_pages(kv_bytes, page), page_len=config.page_len)
        with checkpoint.wait(f"checking and timing {named}"):
            runner.check()
            speed = Speed(*runner.measure())
        each = needed_bytes(checkpoint, self.dtype, self.form)
        return Taken(
            runner=runner,
            speed=speed,
            digests=digests,
            free=before.free,
            weights=each * (span[1] - span[0]),
            kv=runner.pages.num_pages * page,
        )

    async def compare(self, own: Announcement) -> None:
        """Raises `ConfigError` if the blocks that we announce are not those that the others have.

        One whose file was hashed as a whole knows better than any majority.
        """
        try:
            others = await self._member.directory.find(self._checkpoint.fingerprint)
        except SwarmError as error:
            logger.warning("weights not compared why=%s", error)
            return
        others = tuple(entry for entry in others if entry.peer != own.peer and entry.serving)
        known = announced(own) if self._checkpoint.whole else {}
        wrong = dissenters((own, *others), known)
        for peer, differing in wrong.items():
            logger.warning("weights differ peer=%s blocks=%s", peer, differing)
        if doubtful := contested((own, *others)) & set(range(own.start, own.end)):
            logger.warning("weights are not the same everywhere blocks=%s", sorted(doubtful))
        if own.peer in wrong:
            raise ConfigError(
                f"blocks {wrong[own.peer]} of {self._checkpoint.name} are not those that the other"
                " peers have: the download is damaged; delete it and start again"
            )


def give_up(taken: Taken) -> None:
    """Gives back the memory of blocks that nobody computes with any more."""
    taken.runner.close()


def _discard(loading: asyncio.Future[Taken]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        give_up(loading.result())
