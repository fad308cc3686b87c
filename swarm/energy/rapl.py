"""RAPL: the processor's own energy counters, in Linux' powercap tree (Intel, and AMD since Zen).

https://docs.kernel.org/power/powercap/powercap.html. Only root may read them on most systems: who
can watch them closely learns something of what others compute (CVE-2020-8694).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .apportion import of_cpu, plausible, risen
from .meter import Source, Spent, Usage

_TREE = Path("class/powercap")

ADVICE = (
    "the processor's energy counters are for root alone; to let this user read them:"
    " sudo chmod o+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next start;"
    " docs/energy.md says how to keep it)"
)


@dataclass
class _Zone:
    """One counter in microjoules, which goes back to 0 at `span`."""

    file: Path
    span: int
    last: int

    def risen(self) -> int:
        """Since the last time; raises `OSError` or `ValueError` if it is gone."""
        before, self.last = self.last, _number(self.file)
        return risen(before, self.last, self.span)


class Rapl:
    """All packages of this machine, with their memory where that has a counter of its own."""

    source = Source.RAPL

    def __init__(self, root: Path = Path("/sys")) -> None:
        """Raises `OSError` where there are none; a `PermissionError` where they are not for us."""
        tree = root / _TREE
        # A whole platform (psys) holds the packages, and a package its cores: they count once.
        packages = [zone for zone in tree.glob("intel-rapl:*") if _name(zone).startswith("package")]
        memory = [zone for zone in tree.glob("intel-rapl:*:*") if _name(zone) == "dram"]
        if not packages:
            raise FileNotFoundError(f"no energy counters in {tree}")
        try:
            self._zones = [_zone(folder) for folder in sorted({*packages, *memory})]
        except ValueError as error:
            raise OSError(f"energy counters in {tree} tell no numbers") from error

    def spent(self, usage: Usage) -> Spent | None:
        """See `Meter.spent`."""
        try:
            joules = sum(zone.risen() for zone in self._zones) / 1e6
        except (OSError, ValueError):
            return None
        return of_cpu(plausible(joules, usage.seconds), usage)


def _zone(folder: Path) -> _Zone:
    file = folder / "energy_uj"
    return _Zone(file, _number(folder / "max_energy_range_uj"), _number(file))


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except OSError:
        return ""


def _number(file: Path) -> int:
    return int(file.read_text())
