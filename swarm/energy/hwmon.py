"""Graphics cards whose Linux driver has an energy counter or a power sensor (AMD, Intel).

https://docs.kernel.org/hwmon/sysfs-interface.html: `energy1_input` in microjoules,
`power1_average` and `power1_input` in microwatts.
"""

from __future__ import annotations

from pathlib import Path

from .apportion import plausible, risen
from .meter import Source, Spent, Usage

_TREE = Path("class/hwmon")
_DRIVERS = ("amdgpu", "i915", "xe")
_SENSORS = ("energy1_input", "power1_average", "power1_input")


class Hwmon:
    """One card. What others do on it is not told: all of its energy counts as ours."""

    source = Source.HWMON

    def __init__(self, pci: str = "", root: Path = Path("/sys")) -> None:
        """Of several cards the one with the address `pci`, such as `0000:03:00.0`.

        Raises `OSError` where there is no such card, or it is not known which it is.
        """
        found = {
            folder.joinpath("device").resolve().name: sensor
            for folder in sorted((root / _TREE).glob("hwmon*"))
            if _driver(folder) in _DRIVERS and (sensor := _sensor(folder)) is not None
        }
        sensor = found.get(pci)
        if sensor is None and len(found) == 1:
            (sensor,) = found.values()
        if sensor is None:
            raise FileNotFoundError(
                f"{len(found)} cards with a sensor, none of them {pci or 'named'}"
            )
        self._sensor = sensor
        self._counts = sensor.name.startswith("energy")
        try:
            self._last = int(sensor.read_text())
        except ValueError as error:
            raise OSError(f"{sensor} tells no number") from error

    def spent(self, usage: Usage) -> Spent | None:
        """See `Meter.spent`."""
        try:
            before, self._last = self._last, int(self._sensor.read_text())
        except (OSError, ValueError):
            return None
        if self._counts:
            joules = risen(before, self._last, 0) / 1e6
        else:
            joules = (before + self._last) / 2e6 * usage.seconds
        joules = plausible(joules, usage.seconds)
        return Spent(joules, joules)


def _driver(folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except OSError:
        return ""


def _sensor(folder: Path) -> Path | None:
    return next((folder / name for name in _SENSORS if (folder / name).exists()), None)
