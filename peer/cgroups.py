"""What this process's control groups let it use: memory and cores.

`membership` is this process's /proc/self/cgroup, `root` where the groups are mounted; both
versions are understood (kernel: admin-guide/cgroup-v2.rst; cgroup-v1/memory.rst and
scheduler/sched-bwc.rst). Where there are no groups nothing is limited.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def memory_free(membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> int | None:
    """Bytes left below the tightest memory limit; None if there is no limit."""
    return min((limit - used for limit, used in _memory(membership, root)), default=None)


def memory_limit(membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> int | None:
    """The tightest memory limit in bytes, whatever is left below it; None if there is none."""
    return min((limit for limit, _ in _memory(membership, root)), default=None)


def cpu_quota(membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> float | None:
    """Cores that may be kept busy, which need not be a whole number; None for all there are."""
    quotas = (_quota(folder) for folder in _folders("cpu", membership, root))
    return min((quota for quota in quotas if quota is not None), default=None)


def _folders(controller: str, membership: Path, root: Path) -> Iterator[Path]:
    """Of each group whose limits on this hold for the process: the own one and those around it."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        group = base / path.lstrip("/")
        # A container often sees its own group at the root, under a path from outside.
        for folder in {group, *group.parents, base}:
            if folder == base or base in folder.parents:
                yield folder


def _memory(membership: Path, root: Path) -> Iterator[tuple[int, int]]:
    """(limit, bytes used) of each group that has a limit."""
    for folder in _folders("memory", membership, root):
        for limit_name, usage_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            try:
                limit = (folder / limit_name).read_text().strip()
                usage = int((folder / usage_name).read_text())
                stat = (folder / "memory.stat").read_text()
            except (OSError, ValueError):
                continue
            if limit != "max":
                yield int(limit), usage - _cache(stat)


def _cache(stat: str) -> int:
    """Bytes that count as used although the kernel drops them before it refuses anything."""
    lines = (line.split() for line in stat.splitlines() if line.startswith("inactive_file "))
    return next((int(number) for _, number in lines), 0)


def _quota(folder: Path) -> float | None:
    try:
        if (file := folder / "cpu.max").exists():
            quota, period = file.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
