"""The machine as checks see it: plain facts, each asked for when it is needed.

Tests put others in their place.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from swarm.peer import cgroups

_PATIENCE = 5.0


@dataclass(frozen=True)
class Device:
    """What torch computes with: its `name`, its memory in bytes, and whether it has bfloat16."""

    kind: str
    name: str
    free: int
    total: int
    bfloat16: bool


@dataclass(frozen=True)
class Torch:
    """torch as it is installed: for which kind of card it was built, and what it sees.

    `built_for` is "cpu", or such as "CUDA 12.8" and "ROCm 6.3".
    """

    version: str
    built_for: str
    device: Device
    threads: int


@dataclass(frozen=True)
class Cores:
    """CPU cores: of the machine, of this process, and what its control group lets it use."""

    machine: int
    process: int
    quota: float | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes of RAM and swap; `limited` is what is left below a control group's limit."""

    total: int
    available: int
    swap_total: int
    swap_free: int
    limited: int | None = None


@dataclass(frozen=True)
class Room:
    """Bytes on a disk."""

    free: int
    total: int


class Machine:
    """This one."""

    def python(self) -> tuple[int, int, int]:
        """The interpreter's version."""
        return sys.version_info[:3]

    def requirements(self) -> list[str]:
        """What the package asks for, as it is written in its metadata, extras left out."""
        return [
            each
            for each in importlib.metadata.requires("homeswarm") or []
            if "extra ==" not in each.partition(";")[2]
        ]

    def least_python(self) -> str:
        """Versions of Python that the package runs on, such as `>=3.11`."""
        return str(importlib.metadata.metadata("homeswarm").json.get("requires_python", ""))

    def version(self, package: str) -> str | None:
        """Which version of a package is installed, if any."""
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def has_kernels(self) -> bool:
        """Whether our compiled code is there, and loads."""
        from swarm.kernels import library

        return library() is not None

    def compiler(self) -> str | None:
        """A C compiler."""
        return next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)

    def torch(self) -> Torch:
        """Imports torch, which takes seconds. Raises `ImportError` or `OSError` if it is broken."""
        import torch

        from swarm.peer.devices import choose_device, choose_dtype, free_memory

        device = choose_device("auto")
        free, total, name = free_memory(device), psutil.virtual_memory().total, device.type
        if device.type in ("cuda", "xpu"):
            kind = getattr(torch, device.type)
            total, name = kind.mem_get_info(device)[1], kind.get_device_name(device)
        found = Device(
            device.type, name, free, total, choose_dtype("auto", device) is torch.bfloat16
        )
        built = torch.version.cuda and f"CUDA {torch.version.cuda}"
        built = built or (torch.version.hip and f"ROCm {torch.version.hip}")
        built = built or ("Metal" if torch.backends.mps.is_built() else "cpu")
        if built == "cpu" and getattr(torch.version, "xpu", None):
            built = "XPU"
        return Torch(torch.__version__, built, found, torch.get_num_threads())

    def nvidia(self) -> str | None:
        """An NVIDIA card's driver, and what it says of itself; None where there is no card."""
        if (tool := shutil.which("nvidia-smi")) is not None:
            query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
            told = _output(query)
            return told.splitlines()[0].strip() if told.strip() else "a driver that fails"
        if Path("/proc/driver/nvidia/version").exists():
            return "a driver without nvidia-smi"
        vendors = Path("/sys/bus/pci/devices").glob("*/vendor")
        return "no driver" if any(_is_display(each, "0x10de") for each in vendors) else None

    def amd(self) -> bool:
        """Whether there is an AMD card whose driver can compute."""
        return Path("/dev/kfd").exists()

    def cores(self) -> Cores:
        """CPU cores."""
        machine = os.cpu_count() or 1
        affinity = getattr(os, "sched_getaffinity", None)
        process = len(affinity(0)) if affinity is not None else machine
        return Cores(machine, process, cgroups.cpu_quota())

    def memory(self) -> Memory:
        """RAM and swap."""
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        limited = cgroups.memory_free()
        return Memory(memory.total, memory.available, swap.total, swap.free, limited)

    def room(self, folder: Path) -> Room:
        """How much a folder's disk holds; the folder need not exist yet."""
        usage = shutil.disk_usage(_existing(folder))
        return Room(usage.free, usage.total)

    def try_writing(self, folder: Path) -> None:
        """Writes a little below the folder, or where it will be made; raises `OSError`."""
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(bytes(64 * 1024))
            file.flush()
            os.fsync(file.fileno())

    def synchronised(self) -> bool | None:
        """Whether the system keeps its clock right; None where it does not tell."""
        if shutil.which("timedatectl") is None:
            return None
        told = _output(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).strip()
        return {"yes": True, "no": False}.get(told)

    def holder(self, port: int) -> str | None:
        """The program that listens at a TCP port, where the system tells."""
        try:
            found = psutil.net_connections("tcp")
        except (psutil.AccessDenied, OSError):
            return None
        for each in found:
            if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,) and each.pid:
                try:
                    return f"{psutil.Process(each.pid).name()} (process {each.pid})"
                except psutil.Error:
                    return f"process {each.pid}"
        return None

    def firewall(self) -> str | None:
        """A firewall that is on, by the name of the command that opens ports in it."""
        if shutil.which("ufw") and Path("/etc/ufw/ufw.conf").exists():
            try:
                if "ENABLED=yes" in Path("/etc/ufw/ufw.conf").read_text():
                    return "ufw"
            except OSError:
                return None
        if shutil.which("firewall-cmd") and _output(["firewall-cmd", "--state"]).strip():
            return "firewalld"
        if (tool := Path("/usr/libexec/ApplicationFirewall/socketfilterfw")).exists():
            return "macOS" if "enabled" in _output([str(tool), "--getglobalstate"]) else None
        return None

    def addresses(self) -> set[str]:
        """IP addresses of this machine."""
        return {
            entry.address.partition("%")[0]
            for entries in psutil.net_if_addrs().values()
            for entry in entries
            if entry.family in (socket.AF_INET, socket.AF_INET6)
        }

    def resolve(self, name: str) -> list[str]:
        """IP addresses of a host; raises `OSError` if it has none or nobody can tell."""
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        return sorted({str(entry[4][0]) for entry in found})


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())


def _is_display(vendor: Path, wanted: str) -> bool:
    try:
        is_display = (vendor.parent / "class").read_text().startswith("0x03")
        return is_display and vendor.read_text().strip() == wanted
    except OSError:
        return False


def _output(command: list[str]) -> str:
    """What a program says; nothing where it fails or takes too long."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout if result.returncode == 0 else ""
