"""What the machine computes with: torch, its device, and CPU cores."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.amounts import gigabytes

from .check import aside
from .finding import Finding, ok, problem, warning
from .machine import Machine, Torch

_WHEELS = "https://download.pytorch.org/whl"


@dataclass(frozen=True)
class DeviceCheck:
    """Whether torch sees the accelerator that is there."""

    machine: Machine
    name: str = "torch, device"
    seconds: float = 90.0

    async def run(self) -> Sequence[Finding]:
        try:
            torch = await aside(self.machine.torch)
        except (ImportError, OSError) as error:
            return [
                problem(
                    f"torch cannot be imported: {error}",
                    "nothing can be computed here.",
                    "pip install --force-reinstall torch",
                )
            ]
        nvidia = await aside(self.machine.nvidia)
        found = [self._device(torch, nvidia)]
        if not torch.device.bfloat16:
            found.append(_without_bfloat16(torch))
        return found

    def _device(self, torch: Torch, nvidia: str | None) -> Finding:
        built = f"torch {torch.version} for {torch.built_for}"
        if torch.device.kind != "cpu":
            size = gigabytes(torch.device.total)
            return ok(f"{built}; {torch.device.kind}: {torch.device.name}, {size}")
        slower = "the card lies idle, and the peer computes on the CPU, many times slower."
        if nvidia is not None and torch.built_for.startswith("CUDA"):
            return problem(
                f"{built}, but it sees no card; there is an NVIDIA one: {nvidia}",
                slower,
                f"Install or update the NVIDIA driver to one for {torch.built_for} or newer, and"
                " look at `nvidia-smi`; in a container, start it with its GPUs (--gpus all).",
            )
        if nvidia is not None:
            return problem(
                f"{built}, and there is an NVIDIA card: {nvidia}",
                slower,
                f"pip install --force-reinstall torch --index-url {_WHEELS}/cu128",
            )
        if self.machine.amd() and not torch.built_for.startswith("ROCm"):
            return warning(
                f"{built}, and there is an AMD card",
                slower,
                f"pip install --force-reinstall torch --index-url {_WHEELS}/rocm6.3, if ROCm knows"
                " the card.",
            )
        return ok(f"{built}; no accelerator is known here, the CPU computes")


def _without_bfloat16(torch: Torch) -> Finding:
    if torch.device.kind == "cpu":
        return warning(
            "the CPU has no bfloat16 in hardware",
            "blocks are kept in float32: twice the memory, half the speed.",
            "Use --quantize int8 or int4, whose weights take as little as elsewhere.",
        )
    newer = " macOS 14 has it." if sys.platform == "darwin" else ""
    return warning(
        "the device has no bfloat16",
        "float16 is used instead; some models overflow in it." + newer,
        "Nothing, unless a model's peers report numbers that are none; then --dtype float32.",
    )


@dataclass(frozen=True)
class CoresCheck:
    """How many cores may be used."""

    machine: Machine
    name: str = "CPU cores"
    seconds: float = 10.0

    async def run(self) -> Sequence[Finding]:
        cores = self.machine.cores()
        quota = cores.quota
        told = f"{cores.process} of {cores.machine}"
        if quota is not None and quota + 0.01 < cores.process:
            threads = max(1, math.ceil(quota))
            return [
                warning(
                    f"{told}, of which a control group lets {quota:g} be used",
                    f"a peer starts {threads} threads; other commands one for each core, which then"
                    " stand in each other's way.",
                    f"Ask with --threads {threads}, or give the container more CPU.",
                )
            ]
        if cores.process < cores.machine:
            return [ok(f"{told} (affinity)")]
        return [ok(told)]
