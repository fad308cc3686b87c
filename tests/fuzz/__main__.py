"""Fuzzers of everything that reads bytes from outside, for as long as one likes.

    python tests/fuzz [--seconds 600] [--jobs 2] [--engine atheris|hypothesis] [--seed N]
        [NAME …]

Each runs in a process of its own, `jobs` of them at a time. What has reached new code, and what has
failed, is kept in `.fuzz`, from which the next run goes on. Exits with 1 where an input failed, and
shows the smallest that does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from engines import HANGS, Drive, Engine, best
from fuzzers import NAMES
from rich.console import Console

_FOLDER = Path(".fuzz")
_CLOCKWORK = Path(__file__).parent.parent / "whole" / "schedules"
"""Where the event loop is in which a play goes the same way each time."""

_SLACK = 120.0
"""Seconds for starting, and for making a failing input smaller, beyond which a fuzzer hangs."""

_SHOWN = 60
"""Lines of what went wrong."""

_CRASHES = (77,)
"""Exit codes with which libFuzzer ends over a signal, after it has kept the input."""

_HUNG = -1


def main() -> int:
    """Runs them, or in a child process one."""
    given = _parser().parse_args()
    if given.drive:
        drive = Drive(given.drive, given.seconds, given.folder, given.seed)
        if given.replay:
            drive.replay(given.replay.read_bytes())
        drive.run(given.engine)
    console = Console(stderr=True, width=110, highlight=False)
    console.print(f"engine={given.engine} seconds={given.seconds:g} folder={given.folder}")
    return asyncio.run(_run_all(given, console))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each fuzzer")
    parser.add_argument("--jobs", type=int, default=2, help="how many run at a time")
    parser.add_argument("--engine", type=Engine, default=best(), choices=list(Engine))
    parser.add_argument("--seed", type=int, default=0, help="0: other inputs each time")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where findings are kept")
    parser.add_argument("--drive", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--replay", type=Path, help=argparse.SUPPRESS)
    return parser


async def _run_all(given: argparse.Namespace, console: Console) -> int:
    free = asyncio.Semaphore(given.jobs)

    async def run(name: str) -> bool:
        async with free:
            return await _run(name, given, console)

    passed = await asyncio.gather(*(run(name) for name in given.names or NAMES))
    console.print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


async def _run(name: str, given: argparse.Namespace, console: Console) -> bool:
    """One fuzzer in a process of its own; whether no input failed."""
    given.folder.mkdir(parents=True, exist_ok=True)
    log = given.folder / f"{name}.log"
    code, number = await _drive(name, given, log)
    if code in _CRASHES and (crash := _newest(given.folder / name)) is not None:
        # Now and then a process with the engine in it dies of a signal over an input that does no
        # harm in another one: then it has a second go.
        alone, _ = await _drive(name, given, log, "--replay", str(crash))
        if alone == 0:
            told = "the engine has died over an input that passes alone; once more"
            console.print(f"{name}: {told}: {crash}", style="yellow", markup=False)
            code, number = await _drive(name, given, log)
    console.print(f"{name:12} {number:>9} inputs  {'FAILED' if code else 'ok'}")
    if code:
        lines = log.read_text(errors="replace").splitlines()
        console.print("\n".join(lines[-_SHOWN:]), style="red", markup=False)
        console.print(f"all of it: {log}")
    return not code


async def _drive(name: str, given: argparse.Namespace, log: Path, *more: str) -> tuple[int, str]:
    """Runs a child until it ends: its code, and how many inputs it says that it has had."""
    options = ["--drive", name, "--seconds", str(given.seconds), "--folder", str(given.folder)]
    options += ["--engine", given.engine, "--seed", str(given.seed), *more]
    with log.open("wb") as errors:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).parent),
            *options,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_CLOCKWORK)},
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
        try:
            async with asyncio.timeout(given.seconds + HANGS + _SLACK):
                out, _ = await child.communicate()
        except TimeoutError:
            child.kill()
            await child.communicate()
            return _HUNG, "?"
        except asyncio.CancelledError:
            child.terminate()
            raise
    assert child.returncode is not None
    return child.returncode, out.decode().strip() or "?"


def _newest(folder: Path) -> Path | None:
    """The input over which the engine has died last."""
    crashes = folder.glob("crash-*")
    return max(crashes, key=lambda path: path.stat().st_mtime, default=None)


if __name__ == "__main__":
    sys.exit(main())
