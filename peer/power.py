"""What there is on this machine that tells how much energy a peer spends."""

from __future__ import annotations

import logging

import torch

from swarm.energy.estimate import Estimate
from swarm.energy.metering import Metering
from swarm.energy.search import Device, find

from .devices import choose_device

logger = logging.getLogger(__name__)


def metering(device_name: str, watts: float = 0.0) -> Metering:
    """Meters for the device of a `PeerConfig`, in a machine of so many watts under full load.

    0: nobody says. Raises `ConfigError` where there is no such device.
    """
    device = _device(choose_device(device_name))
    found = find(device, watts)
    for line in found.advice:
        logger.info("energy could be measured advice=%s", line)
    return Metering(found.meters, instead=Estimate(watts, card=device.kind != "cpu"))


def _device(device: torch.device) -> Device:
    if device.type != "cuda":
        return Device(device.type)
    told = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return Device("rocm", pci=_pci(told))
    return Device("cuda", uuid=f"GPU-{told.uuid}")


def _pci(told: object) -> str:
    """As Linux writes it."""
    numbers = [getattr(told, f"pci_{part}_id", 0) for part in ("domain", "bus", "device")]
    return "{:04x}:{:02x}:{:02x}.0".format(*numbers)
