"""`make fuzz` itself: what a run says of a fuzzer, and of an input that fails."""

from __future__ import annotations

import argparse
import importlib.util
import io
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

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
drive = engines.Drive("any", {seconds}, Path(sys.argv[1]))
{action}
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
    return carry_out(folder, f"drive.run(engines.Engine({engine!r}))", limit, seconds)


def carry_out(
    folder: Path, action: str, limit: int, seconds: float
) -> subprocess.CompletedProcess[str]:
    script = DRIVE.format(limit=limit, seconds=seconds, action=action)
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


@pytest.mark.parametrize(("limit", "code"), [(2**200, 0), (-(2**200), 1)])
def test_an_input_can_be_tried_alone(tmp_path: Path, limit: int, code: int) -> None:
    done = carry_out(tmp_path, f"drive.replay({bytes(range(64))!r})", limit, 1.0)
    assert done.returncode == code, done.stderr
    assert ("too many" in done.stderr) == bool(code)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The command itself, as a module."""
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location("fuzz_command", HERE / "__main__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("codes", "passed"),
    [
        ([0], True),
        ([1], False),
        ([-1], False),
        ([77, 0, 0], True),  # It dies, the input passes alone, and so do others.
        ([77, 0, 77], False),
        ([77, 0, 1], False),
        ([77, 1], False),
        ([77, 77], False),
    ],
)
async def test_an_engine_that_dies_over_nothing_has_a_second_go(
    main: ModuleType,
    codes: list[int],
    passed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "frames").mkdir()
    crash = tmp_path / "frames" / "crash-1"
    crash.write_bytes(b"input")
    (tmp_path / "frames.log").write_text("what went wrong")
    rest, replayed = list(codes), []

    async def drive(name: str, given: Any, log: Path, *more: str) -> tuple[int, str]:
        replayed.append(more)
        return rest.pop(0), "5"

    monkeypatch.setattr(main, "_drive", drive)
    given = argparse.Namespace(folder=tmp_path, seconds=1.0, seed=1, engine="atheris")
    assert await main._run("frames", given, Console(file=io.StringIO())) == passed
    assert not rest
    assert replayed[1:2] == ([("--replay", str(crash))] if codes[0] == 77 else [])
