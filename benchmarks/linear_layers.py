"""How much packed bfloat16 layers gain over plain ones on this CPU, by number of rows.

    python benchmarks/linear_layers.py [--threads 1] [--shape 960x576 --shape 576x1536 ...]

Each product is done with as many different weights as a model has, so that they come from
memory and not from the cache; both forms take turns in one run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from swarm.linear import PackedLinear

SMOLLM2_135M = ["960x576", "576x576", "3072x576", "576x1536"]  # fused q/k/v, o, gate/up, down
ROWS = [1, 4, 8, 128, 512]
COLD_BYTES = 200 << 20
REPEATS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shape", action="append", metavar="OUTxIN")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sys.stdout.write(f"{'shape':>12} {'rows':>5} {'plain us':>9} {'packed us':>9} {'gain':>5}\n")
    for shape in options.shape or SMOLLM2_135M:
        out_features, in_features = (int(part) for part in shape.split("x"))
        compare(out_features, in_features)


@torch.inference_mode()
def compare(out_features: int, in_features: int) -> None:
    """Print a line for each number of rows."""
    copies = max(2, COLD_BYTES // (out_features * in_features * 2))
    plain = [
        nn.Linear(in_features, out_features, bias=False, dtype=torch.bfloat16)
        for _ in range(copies)
    ]
    packed = [PackedLinear.of([linear]) for linear in plain]
    for rows in ROWS:
        x = torch.randn(1, rows, in_features, dtype=torch.bfloat16)
        layers = slice(max(2, copies * 8 // max(8, rows)))  # many rows are not bound by memory
        plain_s = packed_s = float("inf")
        for _ in range(REPEATS):
            plain_s = min(plain_s, seconds_each(plain[layers], x))
            packed_s = min(packed_s, seconds_each(packed[layers], x))
        sys.stdout.write(
            f"{f'{out_features}x{in_features}':>12} {rows:>5} {plain_s * 1e6:>9.1f}"
            f" {packed_s * 1e6:>9.1f} {plain_s / packed_s:>5.2f}\n"
        )


def seconds_each(layers: list[Callable[[torch.Tensor], torch.Tensor]], x: torch.Tensor) -> float:
    """Mean time of one product, over different weights."""
    started = time.perf_counter()
    for layer in layers:
        layer(x)
    return (time.perf_counter() - started) / len(layers)


if __name__ == "__main__":
    main()
