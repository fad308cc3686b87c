"""Which meters there are for a device of this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .apple import CPU, GPU, Apple
from .estimate import Estimate
from .hwmon import Hwmon
from .meter import Meter
from .nvml import Nvml
from .rapl import ADVICE, Rapl

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """What computes: the cpu, or a card of NVIDIA's (`cuda`), AMD's (`rocm`), Apple's (`mps`) or
    Intel's (`xpu`), which has an id and an address on the bus."""

    kind: str = "cpu"
    uuid: str = ""
    pci: str = ""


@dataclass(frozen=True)
class Found:
    """Meters, and what the owner of this machine may do to have better ones."""

    meters: tuple[Meter, ...]
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where meters are looked for; tests have their own."""

    root: Path = Path("/sys")
    nvml: Any = None
    apple: Any = None


def find(device: Device, watts: float = 0.0, places: Places | None = None) -> Found:
    """The meters of a device, and of the processor beside it; an estimate where there are none.

    `watts` is what the machine draws under full load, as its owner says; 0: nobody says.
    """
    places = places or Places()
    advice: list[str] = []
    card = _opened(lambda: _card(device, places), advice) if device.kind != "cpu" else None
    processor = _opened(lambda: Rapl(places.root), advice)
    processor = processor or _opened(lambda: Apple(CPU, places.apple), advice)
    if device.kind != "cpu" and card is None:
        # Nobody knows what the card takes: then the little that the processor does tells nothing.
        return Found((Estimate(watts, card=True),), tuple(advice))
    found = tuple(meter for meter in (card, processor) if meter is not None)
    return Found(found or (Estimate(watts),), tuple(advice))


def _card(device: Device, places: Places) -> Meter:
    match device.kind:
        case "cuda":
            return Nvml(device.uuid, places.nvml)
        case "mps":
            return Apple(GPU, places.apple)
        case _:
            return Hwmon(device.pci, places.root)


def _opened(opening: Callable[[], Meter], advice: list[str]) -> Meter | None:
    try:
        return opening()
    except PermissionError:
        advice.append(ADVICE)
    except (OSError, ImportError) as error:
        logger.debug("no energy meter why=%s", error)
    return None
