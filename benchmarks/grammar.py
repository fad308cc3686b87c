"""What libraries for constrained decoding take, and which JSON schemas they obey.

    python benchmarks/grammar.py [--model MODEL] [--libraries llguidance xgrammar outlines-core]

Each library reads the model's vocabulary, compiles schemas and follows a text of each, token by
token, in a process of its own; what takes longer than a minute is ended. Then each keyword alone:
"enforced" where a value that keeps to it can be written and one that does not cannot, "refused"
where the library says that it does not support it, "ignored" where the wrong value can be written.
Libraries that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any

import psutil
from grammar_libraries import LIBRARIES, Library
from grammar_schemas import CASES, FEATURES, Case, Feature
from rich.console import Console
from rich.table import Table

from swarm.checkpoint import open_checkpoint
from swarm.cli.demo import demonstration_model

PATIENCE = 60.0
"""Seconds for one schema."""


@dataclass
class Followed:
    """One schema: times in seconds; the process's memory in bytes afterwards."""

    compiling: float
    median: float
    worst: float
    num_tokens: int
    memory: int
    refused: str = ""


def main() -> None:
    """Measures and prints."""
    options = _options()
    if options.child:
        _measure(options.child, options.model, options.skip)
        return
    found = {name: _run(name, options.model) for name in options.libraries}
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2))
    _show({name: results for name, results in found.items() if results})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="default: the demonstration model")
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=LIBRARIES)
    parser.add_argument("--json", metavar="FILE", help="write JSON too")
    parser.add_argument("--child", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.model = options.model or str(demonstration_model())
    return options


def _run(name: str, model: str) -> list[Any]:
    """What a library gives, case by case; a case that takes too long ends the process."""
    results: list[Any] = []
    while len(results) <= len(CASES) + len(FEATURES):
        command = [sys.executable, __file__, "--child", name, "--model", model]
        child = subprocess.Popen(
            [*command, "--skip", str(len(results))], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        lines: SimpleQueue[str] = SimpleQueue()
        Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
        count = len(results)
        try:
            while line := lines.get(timeout=PATIENCE):
                results.append(json.loads(line))
        except Empty:
            results.append("too slow")
        child.kill()
        child.wait()
        if len(results) == count:
            return []  # not installed
    return results


def _read(stream: IO[str], lines: SimpleQueue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _measure(name: str, model: str, skip: int) -> None:
    """The child: a line of JSON for the vocabulary, each case, each feature."""
    with open_checkpoint(model) as checkpoint:
        tokenizer, width = checkpoint.tokenizer(), checkpoint.config.vocab_size
    before, started = _memory(), time.perf_counter()
    try:
        library = LIBRARIES[name](tokenizer, width)
    except ImportError as error:
        sys.exit(f"{name}: {error}")
    setting_up = {"seconds": time.perf_counter() - started, "before": before, "memory": _memory()}
    jobs: list[Any] = [setting_up, *CASES, *FEATURES]
    for job in jobs[skip:]:
        match job:
            case Case():
                job = asdict(_follow(library, tokenizer, job))
            case Feature():
                job = _judge(library, tokenizer, job)
        sys.stdout.write(json.dumps(job) + "\n")
        sys.stdout.flush()


def _follow(library: Library, tokenizer: Any, case: Case) -> Followed:
    """Compiles a schema and writes its value, with a mask before each token."""
    text = json.dumps(case.value, separators=(",", ":"))
    tokens = tokenizer(text)["input_ids"]
    started = time.perf_counter()
    try:
        follower = library.follower(json.dumps(case.schema))
    except library.refusals as error:
        return Followed(0, 0, 0, 0, 0, str(error)[:200] or type(error).__name__)
    compiling = time.perf_counter() - started
    seconds = []
    for token in tokens:
        started = time.perf_counter()
        follower.mask()
        allowed = follower.accept(token)
        seconds.append(time.perf_counter() - started)
        if not allowed:
            break
    return Followed(
        compiling,
        statistics.median(seconds),
        max(seconds),
        len(seconds),
        _memory(),
        "" if allowed and follower.may_end() else "its own value is not allowed",
    )


def _judge(library: Library, tokenizer: Any, feature: Feature) -> str:
    try:
        good, bad = (
            _writes(library, tokenizer, feature.schema, value)
            for value in (feature.good, feature.bad)
        )
    except library.refusals:
        return "refused"
    return "ignored" if bad else "enforced" if good else "wrong"


def _writes(library: Library, tokenizer: Any, schema: Any, value: Any) -> bool:
    """Whether a value can be written, character by character: any tokens will do."""
    follower = library.follower(json.dumps(schema))
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    tokens = [token for letter in text for token in tokenizer(letter)["input_ids"]]
    return all(follower.accept(token) for token in tokens) and follower.may_end()


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


def _show(found: dict[str, list[Any]]) -> None:
    console = Console(width=140)
    table = Table(title="compiling; median and worst time of a token")
    table.add_column("schema", no_wrap=True)
    for name in found:
        table.add_column(name, justify="right")
    table.add_row("vocabulary", *(_vocabulary(results[0]) for results in found.values()))
    for number, case in enumerate(CASES, 1):
        table.add_row(case.name, *(_times(results[number]) for results in found.values()))
    table.add_row("all of them", *(_memories(results) for results in found.values()))
    console.print(table)
    table = Table("keyword", *found, title="single keywords")
    for number, feature in enumerate(FEATURES, 1 + len(CASES)):
        table.add_row(feature.name, *(str(results[number]) for results in found.values()))
    console.print(table)


def _vocabulary(result: Any) -> str:
    if isinstance(result, str):
        return result
    return f"{result['seconds']:.2f} s; {(result['memory'] - result['before']) / 1e6:.0f} MB"


def _memories(results: list[Any]) -> str:
    """What the process has taken since before the vocabulary, if it ran through."""
    made, *cases = results[: 1 + len(CASES)]
    if not all(isinstance(each, dict) for each in (made, *cases)):
        return ""
    most = max(each["memory"] for each in (made, *cases))
    return f"{(most - made['before']) / 1e6:.0f} MB"


def _times(result: Any) -> str:
    if isinstance(result, str) or result["refused"]:
        return result if isinstance(result, str) else result["refused"].splitlines()[0][:60]
    median, worst = result["median"] * 1e6, result["worst"] * 1e3
    return f"{result['compiling'] * 1e3:.1f} ms; {median:.0f} µs, {worst:.1f} ms"


if __name__ == "__main__":
    main()
