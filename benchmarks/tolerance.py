"""How far apart honest peers are, and how far from them faults are.

    python benchmarks/tolerance.py [--model MODEL] [--positions N] [--json FILE]

Spans of the model compute the same hidden states (of this repository's own documentation) in
float32, and then as honest peers may: in other types, with weights in fewer bits, position by
position, rounded on the wire. Then with faults. What is printed are the distances from float32 of
`swarm.auditing.comparison`: the median over the positions and the largest one, at worst over all
spans and wire types for honest peers, and at best for faults. The bounds in
`swarm.auditing.tolerance` lie between the two. Models whose weights are on a grid of 4 bits already
lose little by `int4`; `--model tiny` makes random weights, which lose most.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from swarm.auditing.comparison import Difference, difference
from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.client.head import Head
from swarm.forms import Form
from swarm.peer.loading import load
from swarm.peer.runner import RowStep, Runner
from swarm.wire.messages import DType
from swarm.wire.tensors import from_buffers, to_buffer

CPU = torch.device("cpu")
TEXT = Path(__file__).parent.parent / "docs/architecture.md"
CHUNK = 128
WIRES = (DType.BFLOAT16, DType.INT8)

say = Console(highlight=False, width=120).print

Results = dict[str, list[Difference]]


@dataclass(frozen=True)
class Honest:
    """A way in which a peer may keep its weights, and how many positions it computes at once."""

    name: str
    dtype: torch.dtype
    form: Form = Form.NONE
    chunk: int = CHUNK


HONEST = (
    Honest("float32, one by one", torch.float32, chunk=1),
    Honest("bfloat16", torch.bfloat16),
    Honest("bfloat16, one by one", torch.bfloat16, chunk=1),
    Honest("float16", torch.float16),
    Honest("int8", torch.bfloat16, Form.INT8),
    Honest("int4", torch.bfloat16, Form.INT4),
)


class Bare:
    """A checkpoint that does not tell how its file has quantized its weights."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.name, self.config = checkpoint.name, checkpoint.config
        self.load_blocks = checkpoint.load_blocks

    def stored(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Nothing is said."""
        return {}


@dataclass(frozen=True)
class Scene:
    """A span and the hidden states `[n, hidden_size]` that it gets."""

    checkpoint: Bare
    start: int
    end: int
    inputs: torch.Tensor

    def runner(self, dtype: torch.dtype, form: Form = Form.NONE) -> Runner:
        """The span, loaded anew."""
        span = load(self.checkpoint, self.start, self.end, device=CPU, dtype=dtype, form=form)
        return Runner(span, num_pages=2 * len(self.inputs) // 32 + 4)


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    honest: Results = {}
    faults: Results = {}
    with tempfile.TemporaryDirectory() as folder, open_checkpoint(_model(options, folder)) as model:
        for scene in _scenes(model, options.positions):
            say(f"blocks {scene.start}:{scene.end}")
            for wire in WIRES:
                _measure(scene, wire, honest, faults)
    _table(honest, faults)
    if options.json:
        everything = {
            name: {"usual": [e.usual for e in each], "largest": [e.largest for e in each]}
            for name, each in (honest | faults).items()
        }
        options.json.write_text(json.dumps(everything, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a folder, .gguf file or `tiny`; SmolLM2-135M by default")
    parser.add_argument("--positions", type=int, default=256)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.model:
        from swarm.cli.demo import demonstration_model

        options.model = str(demonstration_model())
    return options


def _model(options: argparse.Namespace, folder: str) -> str:
    if options.model != "tiny":
        return str(options.model)
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=300,
    )
    model = AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        noise = 0.05 * torch.randn_like(weight)
        weight.copy_(noise if weight.dim() > 1 else weight + noise)
    model.save_pretrained(folder)
    return folder


def _scenes(model: Checkpoint, count: int) -> Iterator[Scene]:
    """The first, middle and last third, all blocks, and one in the middle."""
    head, checkpoint, number = Head.load(model, torch.float32), Bare(model), model.num_blocks
    hidden = head.embed(torch.tensor(_ids(model, count))).float()
    thirds = [(0, number // 3), (number // 3, 2 * number // 3), (2 * number // 3, number)]
    for start, end in (*thirds, (0, number), (number // 2, number // 2 + 1)):
        inputs = hidden
        if start:
            inputs = _run(Scene(checkpoint, 0, start, hidden).runner(torch.float32), hidden)
        yield Scene(checkpoint, start, end, inputs)
        gc.collect()


def _ids(model: Checkpoint, count: int) -> list[int]:
    vocabulary = int(model.config.vocab_size)
    if vocabulary < 1000:
        return [(7 * i * i) % (vocabulary - 1) + 1 for i in range(count)]
    return [int(each) for each in model.tokenizer()(TEXT.read_text())["input_ids"][:count]]


def _measure(scene: Scene, wire: DType, honest: Results, faults: Results) -> None:
    given = _over(scene.inputs, wire)
    plain = scene.runner(torch.float32)
    right = _over(_run(plain, given), wire)

    def note(results: Results, name: str, out: torch.Tensor) -> None:
        results.setdefault(name, []).append(difference(_over(out, wire), right, given))

    for way in HONEST:
        note(honest, way.name, _run(scene.runner(way.dtype, way.form), given, way.chunk))
    for name, fault in _FAULTS.items():
        broken = scene.runner(torch.float32)
        broken._program = None
        note(faults, name, fault(broken, given, right))
    if scene.end - scene.start > 1:
        skipped = _run(plain, given, blocks=(scene.start, scene.end - 1))
        note(faults, "one block left out", skipped)


def _over(hidden: torch.Tensor, wire: DType) -> torch.Tensor:
    return from_buffers([to_buffer(hidden, wire)], wire, hidden.shape[-1]).float()


def _run(
    runner: Runner,
    hidden: torch.Tensor,
    chunk: int = CHUNK,
    blocks: tuple[int, int] | None = None,
) -> torch.Tensor:
    row, out = runner.pages.add_row(), []
    for start in range(0, len(hidden), chunk):
        part = hidden[start : start + chunk]
        out.append(runner.run([RowStep(row, start, len(part))], part, blocks).float())
    runner.pages.remove_row(row)
    return torch.cat(out)


# Faults: each gets a runner to break, what comes in, and what would be right.

Fault = Callable[[Runner, torch.Tensor, torch.Tensor], torch.Tensor]


def _layer(runner: Runner) -> Any:
    return runner.span.layers[len(runner.span.layers) // 2]


def _noisy(part: float) -> Fault:
    def fault(runner: Runner, given: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        for weight in _matrices(_layer(runner)):
            weight.add_(part * weight.std() * torch.randn(weight.shape, generator=generator))
        return _run(runner, given)

    return fault


def _other_block(runner: Runner, given: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    for weight in _matrices(_layer(runner)):
        weight.copy_(weight.std() * torch.randn(weight.shape, generator=generator))
    return _run(runner, given)


def _no_head(runner: Runner, given: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    attention = _layer(runner).self_attn
    attention.o_proj.weight[:, : attention.head_dim] = 0
    return _run(runner, given)


def _stale(runner: Runner, given: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """All but the first third is computed behind keys and values of another text."""
    third = len(given) // 3
    other = torch.cat([given[:third].flip(0), given[third:]])
    return torch.cat([right[:third], _run(runner, other)[third:]])


def _shifted(runner: Runner, given: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.cat([right[:1], right[:-1]])


def _once(runner: Runner, given: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """One position is that before it."""
    out, place = right.clone(), len(right) // 2
    out[place] = right[place - 1]
    return out


def _matrices(layer: Any) -> list[torch.Tensor]:
    return [weight for weight in layer.parameters() if weight.dim() > 1]


_FAULTS: dict[str, Fault] = {
    "1 % of noise in one block": _noisy(0.01),
    "10 % of noise in one block": _noisy(0.1),
    "a head of one block missing": _no_head,
    "one block's weights random": _other_block,
    "the rest behind another text": _stale,
    "positions shifted by one": _shifted,
    "one single position wrong": _once,
}


def _table(honest: Results, faults: Results) -> None:
    say(f"{'honest':32} {'median':>8} {'largest':>8}   (at worst)")
    for name, each in honest.items():
        say(f"{name:32} {max(e.usual for e in each):8.3f} {max(e.largest for e in each):8.3f}")
    say(f"{'wrong':32} {'median':>8} {'largest':>8}   (at best .. at worst)")
    for name, each in faults.items():
        low, high = min(e.usual for e in each), max(e.usual for e in each)
        least, most = min(e.largest for e in each), max(e.largest for e in each)
        say(f"{name:32} {low:.3f} .. {high:.3f}   {least:.3f} .. {most:.3f}")


if __name__ == "__main__":
    main()
