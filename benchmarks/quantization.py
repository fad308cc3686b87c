"""What weights in fewer bits save, how fast they are, and how far from bfloat16.

    python benchmarks/quantization.py [--model MODEL] [--threads 1] [--text FILE] [--json FILE]

Each form is loaded by a process of its own, as a peer with all blocks loads it, and runs the same
text. What comes out is compared as next-token distributions: KL divergence from bfloat16's (mean
and 99th percentile, in nats), how often the likeliest token is the same, and perplexity. The text
is this repository's own documentation, unless another is given. float32 is there as a measure:
bfloat16 itself is that far from it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.client.head import Head
from swarm.forms import Form
from swarm.peer.devices import give_back
from swarm.peer.loading import load
from swarm.peer.runner import RowStep, Runner

TEXTS = ("docs/architecture.md", "docs/recovery.md")
WINDOW = 512
CHUNK = 128
DECODED = 48
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """One way to keep the weights."""

    name: str
    dtype: str
    form: Form


CASES = (
    Case("float32", "float32", Form.NONE),
    Case("bfloat16", "bfloat16", Form.NONE),
    Case("int8", "bfloat16", Form.INT8),
    Case("int4", "bfloat16", Form.INT4),
    Case("file", "bfloat16", Form.FILE),
)


@dataclass
class Measured:
    """Memory in bytes, speeds in tokens per second, of all blocks together."""

    resident: int
    decode: float
    prefill: float
    load_seconds: float


@dataclass
class Error:
    """How far one case's next tokens are from bfloat16's."""

    kl_mean: float
    kl_p99: float
    top1: float
    perplexity: float


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if options.case:
        _run_case(options)
        return
    with open_checkpoint(options.model) as checkpoint, tempfile.TemporaryDirectory() as folder:
        windows = _windows(checkpoint, options.text, options.tokens)
        if len(windows[0]) < CHUNK + DECODED:
            sys.exit(f"at least {CHUNK + DECODED} tokens of text: a chunk, and some one by one")
        cases = [case for case in CASES if case.form is not Form.FILE or _is_quantized(checkpoint)]
        measured = {case.name: _in_process(case, options, Path(folder)) for case in cases}
        errors = _errors(checkpoint, windows, cases, Path(folder))
    _table(options, measured, errors)
    if options.json:
        report = {name: asdict(measured[name]) | asdict(errors[name]) for name in measured}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a repo id, folder or .gguf file; SmolLM2-135M by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--text", type=Path, action="append", help="real text; repeatable")
    parser.add_argument("--tokens", type=int, default=2048, help="of the text, at most")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.model:
        from swarm.cli.demo import demonstration_model

        options.model = str(demonstration_model())
    root = Path(__file__).parent.parent
    options.text = options.text or [root / name for name in TEXTS]
    return options


def _windows(checkpoint: Checkpoint, texts: list[Path], limit: int) -> list[torch.Tensor]:
    """Token ids of the texts, in pieces of equal length."""
    text = "\n\n".join(path.read_text() for path in texts)
    ids = torch.tensor(checkpoint.tokenizer()(text)["input_ids"][:limit])
    return [part for part in ids.split(WINDOW) if len(part) == WINDOW] or [ids]


def _is_quantized(checkpoint: Checkpoint) -> bool:
    return bool(checkpoint.stored(0, 1, grids=False))


def _in_process(case: Case, options: argparse.Namespace, folder: Path) -> Measured:
    command = [sys.executable, __file__, "--model", options.model, "--case", case.name]
    command += ["--threads", str(options.threads), "--tokens", str(options.tokens)]
    command += ["--out", str(folder / case.name)]
    for text in options.text:
        command += ["--text", str(text)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return Measured(**json.loads(done.stdout))


def _run_case(options: argparse.Namespace) -> None:
    """In the process of one case: what comes out of the blocks goes into a file."""
    case = next(case for case in CASES if case.name == options.case)
    dtype = getattr(torch, case.dtype)
    with open_checkpoint(options.model) as checkpoint:
        windows = _windows(checkpoint, options.text, options.tokens)
        head = Head.load(checkpoint, torch.float32)
        inputs = [head.embed(ids) for ids in windows]
        del head
        give_back()
        before, started = psutil.Process().memory_info().rss, time.perf_counter()
        span = load(checkpoint, 0, checkpoint.num_blocks, device=CPU, dtype=dtype, form=case.form)
        load_seconds = time.perf_counter() - started
    resident = psutil.Process().memory_info().rss - before
    runner = Runner(span, num_pages=2 * WINDOW // 32 + 4)
    runner.check()
    outputs, prefill = zip(*(_through(runner, hidden) for hidden in inputs), strict=True)
    torch.save(list(outputs), options.out)
    decode = _decode(runner, inputs[0])
    speed = max(prefill)  # other processes only ever slow it down
    print(json.dumps(asdict(Measured(resident, decode, speed, load_seconds))))  # noqa: T201


def _through(runner: Runner, hidden: torch.Tensor) -> tuple[torch.Tensor, float]:
    """One text in chunks: what comes out in float32, and tokens per second."""
    row = runner.pages.add_row()
    started = time.perf_counter()
    outs = [
        runner.run([RowStep(row, start, len(chunk))], chunk).float()
        for start, chunk in zip(range(0, len(hidden), CHUNK), hidden.split(CHUNK), strict=True)
    ]
    seconds = time.perf_counter() - started
    runner.pages.remove_row(row)
    return torch.cat(outs), len(hidden) / seconds


def _decode(runner: Runner, hidden: torch.Tensor) -> float:
    """Tokens per second one by one, behind a chunk: the median step."""
    row = runner.pages.add_row()
    runner.run([RowStep(row, 0, CHUNK)], hidden[:CHUNK])
    seconds = []
    for position in range(CHUNK, CHUNK + DECODED):
        started = time.perf_counter()
        runner.run([RowStep(row, position, 1)], hidden[position : position + 1])
        seconds.append(time.perf_counter() - started)
    runner.pages.remove_row(row)
    return 1 / statistics.median(seconds)


def _errors(
    checkpoint: Checkpoint, windows: list[torch.Tensor], cases: list[Case], folder: Path
) -> dict[str, Error]:
    head = Head.load(checkpoint, torch.float32)
    outputs = {case.name: torch.load(folder / case.name) for case in cases}
    return {
        case.name: _error(head, windows, outputs["bfloat16"], outputs[case.name]) for case in cases
    }


def _error(
    head: Head,
    windows: list[torch.Tensor],
    expected: list[torch.Tensor],
    found: list[torch.Tensor],
) -> Error:
    divergence, same, surprise = [], [], []
    for ids, theirs, ours in zip(windows, expected, found, strict=True):
        p = head.logits(theirs).log_softmax(-1)
        q = head.logits(ours).log_softmax(-1)
        divergence.append((p.exp() * (p - q)).sum(-1))
        same.append(p.argmax(-1) == q.argmax(-1))
        surprise.append(-q[:-1].gather(1, ids[1:, None]).flatten())
    kl = torch.cat(divergence)
    return Error(
        kl_mean=float(kl.mean()),
        kl_p99=float(kl.quantile(0.99)),
        top1=float(torch.cat(same).float().mean()),
        perplexity=float(torch.cat(surprise).mean().exp()),
    )


def _table(
    options: argparse.Namespace, measured: dict[str, Measured], errors: dict[str, Error]
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{Path(options.model).name}, all blocks, {options.threads} thread(s)")
    for column in (
        "weights",
        "MB",
        "decode tok/s",
        "prefill tok/s",
        "KL",
        "KL p99",
        "top-1",
        "ppl",
    ):
        table.add_column(column, justify="left" if column == "weights" else "right")
    base = measured["bfloat16"]
    for name, m in measured.items():
        e = errors[name]
        table.add_row(
            name,
            f"{m.resident / 1e6:.0f}",
            f"{m.decode:.1f} ({m.decode / base.decode:.2f})",
            f"{m.prefill:.0f} ({m.prefill / base.prefill:.2f})",
            f"{e.kl_mean:.5f}",
            f"{e.kl_p99:.4f}",
            f"{100 * e.top1:.1f} %",
            f"{e.perplexity:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
