"""A short run of the chaos over real processes, and that its plan can be relied upon.

`make chaos MINUTES=5` runs it for longer, with another seed each time.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from swarm.cli.demo import demonstration_model
from swarm.errors import ConfigError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def plan() -> ModuleType:
    """The killer's plan; it is no package, as it runs by itself."""
    spec = importlib.util.spec_from_file_location("chaos_plan", HERE / "plan.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def actions(plan, seed, count=200):
    return list(islice(plan.draw(seed, "abcde", "xy"), count))


def test_a_seed_draws_the_same_actions_again(plan):
    assert actions(plan, 7) == actions(plan, 7) != actions(plan, 8)
    assert {action.kind for action in actions(plan, 7)} == set(plan.Kind)


def test_nobody_is_taken_whom_the_others_cannot_replace(plan):
    halves = {"d": (0, 15), "e": (15, 30)}
    everybody = halves | {"a": (0, 10), "b": (10, 20), "c": (20, 30)}
    one = next(a for a in actions(plan, 1) if a.kind is plan.Kind.KILL)
    two = next(a for a in actions(plan, 1) if a.kind is plan.Kind.TWO)
    for action, num_victims in ((one, 1), (two, 2)):
        chosen = plan.victims(action, everybody, list(everybody), 30)
        assert len(chosen) == num_victims
        left = [span for name, span in everybody.items() if name not in chosen]
        assert plan.covers(left, 30)
        # Who only starts is not needed yet, and may be taken; who is needed may not.
        starting = plan.victims(action, halves, list(everybody), 30)
        assert len(starting) == num_victims and not set(starting) & set(halves)
        assert not plan.victims(action, halves, list(halves), 30)
    assert plan.covers(halves.values(), 30) and not plan.covers([(0, 15), (16, 30)], 30)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short name: the paths of unix sockets in it end at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        yield Path(folder)


@pytest.mark.timeout(720)
def test_no_reply_is_lost_and_nothing_leaks(temporary):
    """Kill -9, freezes, departures, p2pd's death, the bootstrap's and clients' own."""
    try:
        demonstration_model()
    except ConfigError as error:
        pytest.skip(str(error))
    environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE), "--minutes", "1.1", "--seed", "11"],
        capture_output=True,
        text=True,
        timeout=700,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    assert not [*temporary.glob("chaos-*"), *temporary.glob("swarm-*")], "a folder was left behind"
    assert "recoveries=0 " not in done.stderr, "nothing that was done has mattered"
