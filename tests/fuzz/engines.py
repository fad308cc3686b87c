"""What draws a fuzzer's inputs for as long as one likes, in a process of its own.

Atheris (libFuzzer for Python) keeps inputs that reach code which no input reached before, and goes
on from those; hypothesis makes values of its bytes. Where it does not install, hypothesis draws at
random.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import itertools
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import hypothesis
from fuzzers import load
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.database import DirectoryBasedExampleDatabase

HANGS = 60.0
"""Seconds for one input, on however slow a machine; what it may really take counts in lines."""

_MOST_MEMORY = 6 << 30
"""Bytes: a claim that is believed shall end this process, not the machine."""

_LONGEST = 4096
_ROUND = 500


class Engine(StrEnum):
    """Where inputs come from."""

    ATHERIS = "atheris"
    HYPOTHESIS = "hypothesis"


def best() -> Engine:
    """Atheris where it is installed."""
    found = importlib.util.find_spec("atheris") is not None
    return Engine.ATHERIS if found else Engine.HYPOTHESIS


class Drive:
    """One fuzzer's run of so many seconds; what it finds is kept below `folder`.

    With a `seed` other than 0 it begins with the same inputs each time.
    """

    def __init__(self, name: str, seconds: float, folder: Path, seed: int = 0) -> None:
        self._name = name
        self._seed = seed
        self._seconds = seconds
        self._end = 0.0
        self._corpus = folder / name / "corpus"
        self._corpus.mkdir(parents=True, exist_ok=True)
        self._failures = DirectoryBasedExampleDatabase(folder / name / "failures")
        self._num_inputs = 0
        _limit(resource.RLIMIT_DATA, _MOST_MEMORY)

    def run(self, engine: Engine) -> None:
        """Ends the process: with 0 after its time, with 1 after the first input that fails."""
        try:
            {Engine.ATHERIS: self._by_coverage, Engine.HYPOTHESIS: self._at_random}[engine]()
        except Exception:
            traceback.print_exc()
            self._finish(1)
        self._finish(0)

    def replay(self, raw: bytes) -> None:
        """Ends the process: with 0 if this input of atheris' passes without it, else with 1."""
        fuzzer = load(self._name)
        test = self._test(fuzzer.inputs, fuzzer.check)
        try:
            test.hypothesis.fuzz_one_input(raw)
        except Exception:
            traceback.print_exc()
            self._finish(1)
        self._finish(0)

    def _by_coverage(self) -> None:
        import atheris

        with atheris.instrument_imports(include=["swarm", "fuzzers"]):
            fuzzer = load(self._name)
        test = self._test(fuzzer.inputs, fuzzer.check)
        again = self._test(fuzzer.inputs, fuzzer.check, phases=[Phase.reuse, Phase.shrink])

        def target(raw: bytes) -> None:
            try:
                test.hypothesis.fuzz_one_input(raw)
            except Exception:
                self._show(again)
            self._tick()

        def mutate(raw: bytes, max_len: int, number: int) -> bytes:
            # Where a reader is not written in Python, no input reaches more than another: bytes
            # that come from none are half of all, so that all kinds are drawn.
            if number % 2:
                return random.Random(number).randbytes(number % max_len)
            mutated: bytes = atheris.Mutate(raw, max_len)
            return mutated

        options = [f"-max_len={_LONGEST}", "-len_control=0", "-verbosity=0", "-rss_limit_mb=0"]
        options.append(f"-seed={self._seed}")
        # Else inputs that were slow on a busy machine turn up wherever this was started.
        options.append(f"-artifact_prefix={self._corpus.parent}/")
        atheris.Setup([sys.argv[0], *options, str(self._corpus)], target, custom_mutator=mutate)
        atheris.Fuzz()

    def _at_random(self) -> None:
        fuzzer = load(self._name)

        def check(case: Any) -> None:
            fuzzer.check(case)
            self._tick()

        test = self._test(fuzzer.inputs, check, phases=[Phase.reuse, Phase.generate, Phase.shrink])
        for number in itertools.count(self._seed):
            (hypothesis.seed(number)(test) if self._seed else test)()  # Others each time.

    def _test(self, inputs: Any, check: Callable[[Any], None], **options: Any) -> Any:
        # Hypothesis files what failed under the function that it was found by: always this one.
        def hostile_input(case: Any) -> None:
            faulthandler.dump_traceback_later(HANGS, exit=True)
            check(case)

        return settings(
            max_examples=_ROUND,
            database=self._failures,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **options,
        )(given(inputs)(hostile_input))

    def _show(self, again: Callable[[], None]) -> None:
        """Prints the smallest input that fails as the one did which was just found."""
        failed = traceback.format_exc()
        try:
            again()
        except Exception:
            failed = traceback.format_exc()
        sys.stderr.write(failed)
        self._finish(1)

    def _tick(self) -> None:
        # What is loaded for the first input does not count: that takes as long as a few thousand.
        self._end = self._end or time.monotonic() + self._seconds
        self._num_inputs += 1
        if time.monotonic() >= self._end:
            self._finish(0)

    def _finish(self, code: int) -> None:
        # libFuzzer does not come back, and hypothesis would take an exit for a failure.
        sys.stdout.write(f"{self._num_inputs}\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, hard))
