"""A stage on which a schedule takes a few hundredths of a second."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stage
from clockwork import COMPUTING, ClockworkLoop
from hypothesis import HealthCheck, settings
from props import PAGE_LEN, Props
from schedule import Schedule
from talking import Undisturbed

from swarm.checkpoint import open_checkpoint
from swarm.client.head import Head
from swarm.peer import devices, taking
from swarm.peer.kv_cache import page_bytes
from swarm.peer.runner import Runner

NUM_EACH = 225
"""Schedules of each theme where nobody asks for another number."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--schedules", type=int, help="random schedules of each theme")


@pytest.fixture(scope="session")
def profile(request: pytest.FixtureRequest) -> settings:
    """How hypothesis draws: always the same schedules, or as many new ones as were asked for."""
    number = request.config.getoption("--schedules", None)
    return settings(
        max_examples=number or NUM_EACH,
        derandomize=number is None,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def props(make_tiny: Callable[..., Any], bare_world: Any) -> Iterator[Props]:
    """A smaller model than elsewhere, as its size is what the time goes by."""
    import torch

    tiny = make_tiny(
        "llama",
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=64,
    )
    with open_checkpoint(str(tiny.folder)) as checkpoint, pytest.MonkeyPatch.context() as patch:
        _prepare_peers(patch)
        block = taking.load(checkpoint, 0, 1, device=torch.device("cpu"), dtype=torch.float32)
        yield Props(
            lambda stack: bare_world(tiny, checkpoint, stack),
            Head.load(checkpoint, torch.float32),
            Undisturbed(tiny.reference),
            page_bytes(block.geometry, PAGE_LEN, torch.float32),
        )


def _prepare_peers(patch: pytest.MonkeyPatch) -> None:
    """Peers load each span once, take the schedule's word for their speed, and leave no garbage."""
    load_span = taking.load
    spans: dict[tuple[int, int], Any] = {}

    def load(checkpoint: Any, start: int, end: int, **options: Any) -> Any:
        if (start, end) not in spans:
            spans[start, end] = load_span(checkpoint, start, end, **options)
        return spans[start, end]

    def measure(self: Runner) -> tuple[float, float]:
        return COMPUTING.get(), COMPUTING.get() / 8

    patch.setattr(taking, "load", load)
    patch.setattr(taking, "needed_bytes", lambda *_: 1)
    patch.setattr(devices, "free_memory", lambda device: 1 << 40)
    patch.setattr(devices, "taken_memory", lambda device, **_: 1 << 20)
    patch.setattr(devices, "give_back", lambda: None)
    patch.setattr(Runner, "check", lambda self: None)
    patch.setattr(Runner, "measure", measure)


@pytest.fixture(scope="session")
def _plays() -> list[Schedule]:
    return []


@pytest.fixture(scope="session")
def num_played(_plays: list[Schedule]) -> Callable[[], int]:
    """How many schedules have been played so far."""
    return lambda: len(_plays)


@pytest.fixture(scope="module")
def play(props: Props, _plays: list[Schedule]) -> Iterator[Callable[[Schedule], None]]:
    """Plays a schedule on a loop of its own and compares it with the undisturbed one."""

    def play(schedule: Schedule) -> None:
        _plays.append(schedule)
        with asyncio.Runner(loop_factory=ClockworkLoop) as runner:
            runner.run(stage.play(schedule, props))

    gc.collect()
    gc.freeze()
    yield play
    gc.unfreeze()
