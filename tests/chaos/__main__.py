"""Chaos over real processes: peers are killed, frozen and restarted while clients stream.

    python tests/chaos [--minutes 3] [--seed N] [--keep FOLDER]

Every reply must be what an undisturbed run says, none may be lost while the blocks are covered, and
at the end nobody may hold anything. Exits with 1 where that is not so, and says why.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from chaos import Chaos, Settings
from rich.console import Console

from swarm.cli.demo import demonstration_model
from swarm.cli.runner import run_async


def main() -> int:
    """Runs it and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long things are broken")
    parser.add_argument("--seed", type=int, default=None, help="draws the same actions again")
    parser.add_argument("--keep", type=Path, default=None, help="keeps all logs in this folder")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    console = Console(stderr=True, width=110)
    console.print(f"SEED={seed} MINUTES={given.minutes:g}", highlight=False)
    folder = given.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    chaos = Chaos(Settings(60 * given.minutes, seed, folder, demonstration_model()), console)
    problems = run_async(chaos.run())
    chaos.tally.show(console)
    for problem in problems:
        console.print(f"PROBLEM {problem}", style="red", highlight=False, markup=False)
    if problems:
        console.print(f"The logs are in {folder}", highlight=False)
    elif given.keep is None:
        shutil.rmtree(folder)
    console.print("failed" if problems else "passed", style="bold")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
