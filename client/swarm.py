"""A client's membership: joins a group, finds its models, and opens them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from swarm.auditing.reports import Reports
from swarm.background import background
from swarm.checkpoint import Checkpoint, Progress, open_checkpoint
from swarm.directory import Announcement
from swarm.errors import ConfigError, SwarmError
from swarm.forms import Form, form
from swarm.invite import Invite
from swarm.member import JoinConfig, Member, join
from swarm.overview import Overview
from swarm.transport.link import LinkConfig
from swarm.transport.neighbours import Neighbours
from swarm.wire.tensors import wire_dtype

from .access import Access
from .auditing.auditor import Auditor, Tally
from .auditing.config import AuditConfig
from .auditing.repute import Repute
from .config import SessionConfig
from .exchange import Exchange
from .head import Head
from .metrics import ClientMetrics
from .model import RemoteModel
from .passages import Passages
from .recovery import OnWait, log_wait
from .router import Router
from .speculation.draft_model import DraftModel
from .standbys import Standbys
from .wire import AUTO, wire_type

logger = logging.getLogger(__name__)

_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


@dataclass(frozen=True)
class ModelOptions:
    """How the client's own part of a model is loaded; `dtype` "auto" is bfloat16.

    `draft` names a small model with the same vocabulary, which guesses ahead on this machine.
    `wire` is the type in which hidden states travel: `int8`, any `dtype`, or "auto", which is
    `dtype`, or int8 where that is of two bytes and the lines are measured to be slow.
    `quantize` names the `Form` of the output head's weights.
    """

    revision: str | None = None
    dtype: str = "auto"
    cache_dir: Path | None = None
    progress: Progress | None = None
    draft: str | None = None
    wire: str = AUTO
    quantize: str = Form.NONE

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of embeddings and head; `ConfigError` if there is no such."""
        try:
            return _DTYPES["bfloat16" if self.dtype == "auto" else self.dtype]
        except KeyError:
            raise ConfigError(f"dtype {self.dtype}: use auto, {', '.join(_DTYPES)}") from None


class Swarm:
    """A group's swarm, as one who asks it sees it. Made by `Swarm.join`."""

    def __init__(
        self,
        member: Member,
        tasks: asyncio.TaskGroup,
        *,
        session_config: SessionConfig | None = None,
        link_config: LinkConfig | None = None,
        on_wait: OnWait = log_wait,
        audit_config: AuditConfig | None = None,
    ) -> None:
        self.member = member
        self._exchange = Exchange()
        self._block_bytes: dict[str, int] = {}
        self._neighbours = Neighbours(
            member.transport,
            member.membership,
            tasks,
            self._exchange.on_message,
            self._exchange.on_lost,
            link_config,
        )
        audit_config = audit_config or AuditConfig()
        repute = Repute(audit_config)
        self._router = Router(member.directory, self._neighbours, member.peer_id, repute)
        reports = Reports(member.directory, member.membership.standing.member)
        self._auditor = Auditor(audit_config, repute, self._router, self._exchange, reports)
        self._access = Access(
            self._router,
            self._exchange,
            Standbys(self._router),
            self._auditor,
            tasks,
            session_config or SessionConfig(),
            hashlib.blake2b(member.group.id.encode(), key=member.secret, digest_size=32).digest(),
            on_wait,
        )
        tasks.create_task(self._access.standbys.run())
        if self._auditor.enabled:
            tasks.create_task(self._auditor.run())

    @classmethod
    @asynccontextmanager
    async def join(
        cls,
        invite: str | Invite,
        config: JoinConfig | None = None,
        *,
        session_config: SessionConfig | None = None,
        on_wait: OnWait = log_wait,
        audit_config: AuditConfig | None = None,
    ) -> AsyncIterator[Swarm]:
        """Joins the invite's group for the length of the block.

        `on_wait` is told what a session waits for, such as the `NoRouteError` that names missing
        blocks, and None when it goes on. `audit_config` says how much of the peers' work is
        checked. Raises `ConfigError` for an unusable invite, `Unreachable` if nobody of the group
        answers.
        """
        decoded = Invite.decode(invite) if isinstance(invite, str) else invite
        async with (
            join(decoded, config or JoinConfig(asks=True)) as member,
            cls.over(
                member,
                session_config=session_config,
                on_wait=on_wait,
                audit_config=audit_config,
            ) as swarm,
        ):
            yield swarm

    @classmethod
    @asynccontextmanager
    async def over(
        cls,
        member: Member,
        *,
        session_config: SessionConfig | None = None,
        link_config: LinkConfig | None = None,
        on_wait: OnWait = log_wait,
        audit_config: AuditConfig | None = None,
    ) -> AsyncIterator[Swarm]:
        """A swarm for one who is a member already."""
        async with background() as tasks:
            swarm = cls(
                member,
                tasks,
                session_config=session_config,
                link_config=link_config,
                on_wait=on_wait,
                audit_config=audit_config,
            )
            try:
                yield swarm
            finally:
                await swarm._neighbours.aclose()

    @property
    def audits(self) -> Tally:
        """What checking the peers' work has cost and brought so far."""
        return self._auditor.tally

    async def audited(self, seconds: float) -> None:
        """Waits, so long at most, until what is drawn to be checked has been checked."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._auditor.idle()

    @property
    def metrics(self) -> ClientMetrics:
        """This client's numbers, for a Prometheus registry of one's own."""
        return ClientMetrics(self._neighbours, self._access.tally, self._auditor.tally)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes that this client has sent and received over its links to peers."""
        return self._neighbours.traffic

    @property
    def passages(self) -> Passages:
        """Tells which way decode steps take."""
        return self._access.passages

    async def overview(self, *, most: int | None = None) -> Overview:
        """What the group serves now, of `most` peers at most; raises `SwarmError`.

        How large a gap is is known of the models that are open here.
        """
        return await Overview.seen(self.member.directory, self._block_bytes, most=most)

    async def announcements(self) -> tuple[Announcement, ...]:
        """What the group's peers say of themselves now."""
        return await self.member.directory.find()

    async def model(self, name: str, options: ModelOptions | None = None) -> RemoteModel:
        """Opens a model: a repo id, a folder or a `.gguf` file; loads only the client's part of it.

        Raises `ConfigError` that says what is wrong with it. Whether its blocks are served is found
        out by the first step.
        """
        options = options or ModelOptions()
        wire_type(options.wire, wire_dtype(options.torch_dtype))
        checkpoint, head = await asyncio.to_thread(_load, name, options)
        # What travels is chosen by what is known of the peers; sessions find out for themselves
        # who is there.
        with contextlib.suppress(SwarmError):
            await self._router.find(checkpoint.fingerprint)
        if not options.draft:
            return self.remote(checkpoint, head, wire=options.wire)
        draft = await asyncio.to_thread(_load_draft, options.draft, options, checkpoint)
        return self.remote(checkpoint, head, draft, wire=options.wire)

    def remote(
        self,
        checkpoint: Checkpoint,
        head: Head,
        draft: DraftModel | None = None,
        wire: str = AUTO,
    ) -> RemoteModel:
        """A model whose client's part is loaded already; `wire` as in `ModelOptions`."""
        self._router.digests.vouch(checkpoint)
        self._block_bytes[checkpoint.fingerprint] = checkpoint.block_bytes
        return RemoteModel(checkpoint, head, self._access, draft_model=draft, wire=wire)


def _load(name: str, options: ModelOptions) -> tuple[Checkpoint, Head]:
    checkpoint = open_checkpoint(
        name,
        revision=options.revision,
        cache_dir=options.cache_dir,
        progress=options.progress,
    )
    with checkpoint.wait("loading embeddings and head"):
        return checkpoint, Head.load(checkpoint, options.torch_dtype, form(options.quantize))


def _load_draft(name: str, options: ModelOptions, large: Checkpoint) -> DraftModel:
    with (
        open_checkpoint(name, cache_dir=options.cache_dir, progress=options.progress) as checkpoint,
        checkpoint.wait(f"loading {checkpoint.name}, which guesses ahead"),
    ):
        return DraftModel.load(checkpoint, large, options.torch_dtype)
