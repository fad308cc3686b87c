"""How the tests share a machine: `pytest -n auto` runs them side by side.

Each test file runs in one process, so that what a module shares is made once. Where tests of
several files share what is dear, they stay together; where one test takes as long as a file, it
goes alone.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

# Before anybody loads torch, and for all commands that tests start. Processes with two threads each
# on two cores wait for each other: the tests take several times as long.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an input takes by the clock goes by who else is busy; what it costs is counted in lines.
settings.register_profile(
    "beside", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("beside")

_BYTES_EACH = 3 << 30
"""Memory that a process of tests may take, with the swarm that it starts."""

_TOGETHER = (PurePosixPath("tests/processes/gateway"),)
"""Folders whose tests share a swarm of processes."""

_APART = (PurePosixPath("tests/whole/schedules"),)
"""Folders whose tests take as long as other files."""

_FIRST = (
    "tests/processes/gateway",
    "tests/network",
    "tests/processes",
    "tests/chaos",
    "tests/whole",
    "tests/page",
)
"""Folders whose files take longest, or mostly wait: begun last, others would have nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with what takes longest."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=lambda item: _urgency(item.nodeid))


def _urgency(test: str) -> int:
    ranks = (rank for rank, folder in enumerate(_FIRST) if test.startswith(f"{folder}/"))
    return next(ranks, len(_FIRST))


def _unit(test: str) -> str:
    """What runs in one process, one after another."""
    file, _, _ = test.partition("::")
    folders = PurePosixPath(file).parents
    if any(folder in folders for folder in _APART):
        return test
    return next((str(folder) for folder in _TOGETHER if folder in folders), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than cores, as some tests wait for others' answers; fewer where memory is short."""
    affinity = hasattr(os, "sched_getaffinity")
    num_cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(num_cores + 1, psutil.virtual_memory().available // _BYTES_EACH))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives each process one file after another, in the order above."""
    # Who runs a single test needs no xdist.
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _unit(nodeid)

    config.option.loadscopereorder = False
    return Units(config, log)
