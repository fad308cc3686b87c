"""What this machine computes with: the device, the number type, and the memory that is free."""

from __future__ import annotations

import contextlib
import ctypes
import gc

import psutil
import torch

from swarm.errors import ConfigError

from . import cgroups
from .others import GpuOfOthers

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_ACCELERATORS = ("cuda", "xpu", "mps")


def choose_device(name: str) -> torch.device:
    """The device called `name`: "auto", "cpu", "cuda", "mps" or "xpu", also as "cuda:1".

    "auto" takes the accelerator with the most free memory, else the CPU.
    Raises ConfigError for a device that this machine or this build of torch does not have.
    """
    if name == "auto":
        if len(found := accelerators()) == 1:
            return found[0]
        return max(found, key=free_memory, default=torch.device("cpu"))
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


def accelerators() -> list[torch.device]:
    """All accelerators of the first kind that is there; one alone goes by its kind's name."""
    for kind in _ACCELERATORS:
        if (number := _num_devices(kind)) == 1:
            return [torch.device(kind)]
        elif number:
            return [torch.device(kind, index) for index in range(number)]
    return []


def name(device: torch.device) -> str:
    """What its maker calls the device; what the kind is called where nobody says."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "xpu":
        return str(torch.xpu.get_device_name(device))
    return "Apple GPU" if device.type == "mps" else "CPU"


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
    control group's limit (a container's) if that is less. An accelerator that shares its memory
    with the CPU has no more than that either.
    """
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
        integrated = bool(torch.cuda.get_device_properties(device).is_integrated)
        return min(free, _host_free()) if integrated else free
    if device.type == "xpu":
        return int(torch.xpu.mem_get_info(device)[0])
    if device.type == "mps":
        budget = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return max(0, min(int(budget), _host_free()))
    return _host_free()


def total_memory(device: torch.device) -> int:
    """Bytes of memory that `device` has: this process's control group's, where it is limited."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    if device.type == "xpu":
        return int(torch.xpu.mem_get_info(device)[1])
    total = int(psutil.virtual_memory().total)
    limit = cgroups.memory_limit()
    return total if limit is None else min(total, limit)


def taken_memory(device: torch.device, *, daemons: bool = True) -> int:
    """Bytes that this process takes: what torch holds on an accelerator, else what is resident.

    On the CPU that includes the program itself, and unless `daemons` is unset the libp2p daemon
    that it has started, which takes some milliseconds to find.
    """
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    if device.type == "xpu":
        return int(torch.xpu.memory_reserved(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    process = psutil.Process()
    resident = int(process.memory_info().rss)
    for child in process.children() if daemons else ():
        with contextlib.suppress(psutil.Error):
            resident += int(child.memory_info().rss)
    return resident


def bound(device: torch.device, limit: int) -> None:
    """Has torch's own allocator refuse more than `limit` bytes, where it can (0: no limit)."""
    if limit and device.type == "cuda":
        share = min(1.0, limit / total_memory(device))
        torch.cuda.set_per_process_memory_fraction(share, device)


def _host_free() -> int:
    limits = [int(psutil.virtual_memory().available)]
    limit = cgroups.memory_free()
    if limit is not None:
        limits.append(limit)
    return max(0, min(limits))


def others(device: torch.device) -> GpuOfOthers | None:
    """Who else uses this device, where its driver tells."""
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    return GpuOfOthers.find(str(torch.cuda.get_device_properties(device).uuid))


def give_back() -> None:
    """Return freed memory to the system: what loading used beside the weights stays ours else.

    glibc and torch's allocators for accelerators keep it for later; others see to it themselves.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.xpu.is_available():
        torch.xpu.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
