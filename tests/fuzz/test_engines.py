"""`make fuzz` itself: what a run says of a fuzzer, and of an input that fails."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

DRIVE = """
import sys
from pathlib import Path

import engines
from fuzzers.fuzzer import Fuzzer
from hypothesis import strategies as st


def check(number):
    assert number < {limit}, "too many"


engines.load = lambda name: Fuzzer(st.integers(), check)
engines.Drive("any", {seconds}, Path(sys.argv[1])).run(engines.Engine({engine!r}))
"""

ENGINES = [
    "hypothesis",
    pytest.param(
        "atheris",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("atheris") is None, reason="atheris is not installed"
        ),
    ),
]


def drive(
    folder: Path, engine: str, *, limit: int, seconds: float
) -> subprocess.CompletedProcess[str]:
    script = DRIVE.format(limit=limit, seconds=seconds, engine=engine)
    return subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_ends_in_time_and_counts(tmp_path: Path, engine: str) -> None:
    done = drive(tmp_path, engine, limit=2**200, seconds=0.3)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1


@pytest.mark.parametrize("engine", ENGINES)
def test_the_smallest_input_that_fails_is_shown(tmp_path: Path, engine: str) -> None:
    done = drive(tmp_path, engine, limit=1000, seconds=60.0)
    assert done.returncode == 1, done.stderr
    assert "case=1000" in done.stderr.replace(" ", "").replace("\n", "")
    assert list((tmp_path / "any" / "failures").iterdir())


def test_those_that_are_named_are_run(tmp_path: Path) -> None:
    options = ["--seconds", "0.2", "--engine", "hypothesis", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(HERE), *options, "frames"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "1 passed, 0 failed" in done.stderr and (tmp_path / "frames.log").exists()
