"""How fast each form of linear layers is on this CPU, by number of rows.

    python benchmarks/linear_layers.py [--threads 1] [--shape 960x576 --shape 576x1536 ...]

Each product is done with as many different weights as a model has, so that they come from
memory and not from the cache; the forms take turns in one run. Times in microseconds, and beside
them the rate at which bytes of weights were read.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from torch import nn

from swarm.kernels import library
from swarm.linear import Form, PackedLinear, StreamedLinear, packed, prepack

SMOLLM2_135M = ["960x576", "576x576", "3072x576", "576x1536"]  # fused q/k/v, o, gate/up, down
ROWS = [1, 4, 8, 16, 128, 512]
COLD_BYTES = 200 << 20
REPEATS = 7

Layers = list[nn.Module]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shape", action="append", metavar="OUTxIN")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for shape in options.shape or SMOLLM2_135M:
        out_features, in_features = (int(part) for part in shape.split("x"))
        compare(out_features, in_features)


@torch.inference_mode()
def compare(out_features: int, in_features: int) -> None:
    """Print a table: a line for each number of rows, a column for each form."""
    forms = made(out_features, in_features)
    sys.stdout.write(f"{f'{out_features}x{in_features}':>12}")
    sys.stdout.write("".join(f"{name:>22}" for name in forms) + "\n")
    for rows in ROWS:
        x = torch.randn(1, rows, in_features, dtype=torch.bfloat16)
        best = dict.fromkeys(forms, float("inf"))
        for _ in range(REPEATS):
            for name, (layers, _) in forms.items():
                # Many rows are not bound by memory.
                part = layers[: max(2, len(layers) * 8 // max(8, rows))]
                best[name] = min(best[name], seconds_each(part, x))
        sys.stdout.write(f"{rows:>12}")
        for name, (_, size) in forms.items():
            sys.stdout.write(f"{best[name] * 1e6:>11.1f} {size / best[name] / 1e9:>5.1f} GB/s")
        sys.stdout.write("\n")


def made(out_features: int, in_features: int) -> dict[str, tuple[Layers, float]]:
    """Layers of each form that this machine has, and the bytes of one's weights."""
    numbers = out_features * in_features
    copies = max(2, COLD_BYTES // (numbers * 2))
    plain = [
        nn.Linear(in_features, out_features, bias=False, dtype=torch.bfloat16)
        for _ in range(copies)
    ]
    forms: dict[str, tuple[Layers, float]] = {"plain": (list(plain), 2.0 * numbers)}
    if packed.can_pack(plain[0]):
        forms["packed"] = [PackedLinear.of([layer]) for layer in plain], 2.0 * numbers
    if library() is not None:
        forms["streamed"] = [StreamedLinear.of([layer]) for layer in plain], 2.0 * numbers
    for form, size in ((Form.INT8, 1.0), (Form.INT4, 0.625)):
        models = [nn.Sequential(layer) for layer in plain]
        for model in models:
            prepack(model, form=form)
        forms[str(form)] = [model[0] for model in models], size * numbers
    return forms


def seconds_each(layers: list[nn.Module], x: torch.Tensor) -> float:
    """Mean time of one product, over different weights."""
    started = time.perf_counter()
    for layer in layers:
        layer(x)
    return (time.perf_counter() - started) / len(layers)


if __name__ == "__main__":
    main()
