"""What this machine computes with: the device, the number type, and the memory that is free."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

import psutil
import torch

from swarm.errors import ConfigError

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_ACCELERATORS = ("cuda", "xpu", "mps")


def choose_device(name: str) -> torch.device:
    """The device called `name`: "auto", "cpu", "cuda", "mps" or "xpu", also as "cuda:1".

    "auto" takes the first accelerator that is there, else the CPU.
    Raises ConfigError for a device that this machine or this build of torch does not have.
    """
    if name == "auto":
        found = next((kind for kind in _ACCELERATORS if _num_devices(kind)), "cpu")
        return torch.device(found)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}: use auto, cpu, cuda, mps or xpu") from error
    if device.type != "cpu" and device.type not in _ACCELERATORS:
        raise ConfigError(f"device {name!r} is not supported: use auto, cpu, cuda, mps or xpu")
    available = _num_devices(device.type)
    if (device.index or 0) >= available:
        raise ConfigError(
            f"device {name!r} is not available: torch {torch.__version__} finds"
            f" {available} {device.type} device(s) on this machine"
        )
    return device


def _num_devices(kind: str) -> int:
    if kind == "cpu":
        return 1
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "xpu":
        return torch.xpu.device_count() if torch.xpu.is_available() else 0
    return int(torch.backends.mps.is_available())


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number type called `name`: "auto", "float32", "bfloat16" or "float16".

    "auto" takes bfloat16 where `device` computes with it natively, float16 on accelerators that
    do not, and float32 on CPUs that do not (emulated halves are slower than whole floats).
    Raises ConfigError for any other name.
    """
    if name in _DTYPES:
        return _DTYPES[name]
    if name != "auto":
        raise ConfigError(f"unknown dtype {name!r}: use auto, {', '.join(_DTYPES)}")
    if device.type == "cpu":
        return torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "xpu":
        return torch.bfloat16
    return torch.bfloat16 if _mps_has_bfloat16(device) else torch.float16


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16, AMX, Arm BF16)."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        found = capabilities()
        return any(found.get(key) for key in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch < 2.11
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def _mps_has_bfloat16(device: torch.device) -> bool:
    """Metal learned bfloat16 with macOS 14; before that every use raises."""
    try:
        torch.ones(1, 1, dtype=torch.bfloat16, device=device) @ torch.ones(
            1, 1, dtype=torch.bfloat16, device=device
        )
    except (RuntimeError, TypeError):
        return False
    return True


def free_memory(device: torch.device) -> int:
    """Bytes that can be taken on `device` now.

    On the CPU this is what the kernel can give without swapping, or what is left below the
    control group's limit (a container's) if that is less.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "xpu":
        return int(torch.xpu.mem_get_info(device)[0])
    if device.type == "mps":
        budget = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return max(0, min(int(budget), int(psutil.virtual_memory().available)))
    limits = [int(psutil.virtual_memory().available)]
    limit = cgroup_free(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    if limit is not None:
        limits.append(limit)
    return max(0, min(limits))


def give_back() -> None:
    """Return freed memory to the system: what loading used beside the weights stays ours else.

    glibc keeps it for later; other allocators see to it themselves.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def cgroup_free(membership: Path, root: Path) -> int | None:
    """Bytes left below the tightest memory limit of this process's control groups.

    `membership` is this process's /proc/self/cgroup, `root` where the groups are mounted; both
    versions are understood (kernel: admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst). None if
    there is no limit.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    left: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names = ("memory.max", "memory.current")
            base = root
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            base = root / "memory"
        else:
            continue
        group = base / path.lstrip("/")
        # A container often sees its own group at the root, under a path from outside.
        for folder in {group, *group.parents, base}:
            if folder == base or base in folder.parents:
                left.extend(_group_free(folder, *names))
    return min(left, default=None)


def _group_free(folder: Path, limit_name: str, usage_name: str) -> list[int]:
    """[bytes left] in one control group, or [] if it has no limit."""
    try:
        limit = (folder / limit_name).read_text().strip()
        usage = int((folder / usage_name).read_text())
        stat = (folder / "memory.stat").read_text()
    except (OSError, ValueError):
        return []
    if limit == "max":
        return []
    # File cache counts as used although the kernel drops it before it refuses anything.
    cache = next(
        (int(line.split()[1]) for line in stat.splitlines() if line.startswith("inactive_file ")), 0
    )
    return [int(limit) - usage + cache]
