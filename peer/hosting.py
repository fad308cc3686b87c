"""One span being served: its weights, its memory, its sessions. A move makes a new one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from swarm.amounts import megabytes
from swarm.errors import ConfigError
from swarm.forms import Form
from swarm.transport.neighbours import Neighbours

from .engine import Engine
from .handler import Handler
from .kept import KeptPrefixes
from .leases import Leases
from .limits import HandlerConfig
from .load import Load, Speed
from .openings import Served
from .runner import Runner
from .scheduler import Scheduler, SchedulerConfig
from .session import Arrival
from .tally import Tally

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Hosting:
    """Serves the sessions of one runner; `run` computes until it is cancelled."""

    def __init__(
        self,
        model: str,
        runner: Runner,
        speed: Speed,
        peer_id: str,
        tasks: asyncio.TaskGroup,
        handler_config: HandlerConfig | None = None,
        *,
        tally: Tally | None = None,
        brief: float = 0.0,
        form: Form = Form.NONE,
    ) -> None:
        self.runner = runner
        self.form = form
        self.leases = Leases(runner.pages.num_pages, peer_id)
        span = runner.span
        served = Served(model, span.start, span.end, span.hidden_size, runner.pages.page_len)
        limits = handler_config or HandlerConfig()
        self.kept = KeptPrefixes(runner.pages, seconds=limits.keep_seconds, share=limits.keep_share)
        tally = tally or Tally()
        self.handler = Handler(served, self.leases, self.kept, tasks, limits, tally)
        sizes = SchedulerConfig.timed(speed.decode_seconds, speed.prefill_seconds)
        self._scheduler: Scheduler[Arrival] = Scheduler(sizes)
        self._load = Load(speed)
        self._engine = Engine(
            runner,
            self._scheduler,
            self.handler,
            self.kept,
            self._load,
            tally=tally,
            brief=brief,
        )

    @property
    def speed(self) -> Speed:
        """How fast this span is now, for one session more."""
        return self._load.speed(asyncio.get_running_loop().time())

    @property
    def free_positions(self) -> int:
        """Positions of KV memory that nobody has leased."""
        return self.leases.free * self.runner.pages.page_len

    @property
    def total_positions(self) -> int:
        """Positions of KV memory in all."""
        return self.leases.num_pages * self.runner.pages.page_len

    @property
    def num_queued_steps(self) -> int:
        """Steps that wait for the compute thread."""
        return len(self._scheduler)

    def attach(self, neighbours: Neighbours) -> None:
        """Names the links over which outputs leave."""
        self.handler.attach(self._engine, neighbours)

    async def aside(self, job: Callable[[Runner], T]) -> T:
        """Has `job` done between the sessions' batches; see `Engine.aside`."""
        return await self._engine.aside(job)

    async def run(self) -> None:
        """Computes until cancelled."""
        await self._engine.run()


def num_pages(kv_bytes: int, page_bytes: int) -> int:
    """Pages that fit; raises `ConfigError` where not even a few do."""
    pages = kv_bytes // page_bytes
    if pages < 4:
        raise ConfigError(
            f"{megabytes(kv_bytes)} of KV memory hold {pages} pages of {page_bytes / 1e6:.2f} MB;"
            " give the peer more memory or fewer blocks"
        )
    return pages
