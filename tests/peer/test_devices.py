"""Names of devices and number types; memory within a container's limit."""

from __future__ import annotations

import psutil
import pytest
import torch

from swarm.errors import ConfigError
from swarm.peer import devices
from swarm.peer.devices import choose_device, choose_dtype, free_memory

CPU = torch.device("cpu")


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "meta", "cpu:1", ""])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(ConfigError):
        choose_device(name)


@pytest.mark.parametrize("found", ["cuda", "xpu", "mps", None])
def test_auto_takes_an_accelerator_if_there_is_one(
    found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_num_devices", lambda kind: int(kind == found))
    assert choose_device("auto").type == (found or "cpu")


def test_dtypes_by_name() -> None:
    assert choose_dtype("float16", CPU) is torch.float16
    with pytest.raises(ConfigError, match="int8"):
        choose_dtype("int8", CPU)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_dtype_on_a_cpu(
    native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: native)
    assert choose_dtype("auto", CPU) is dtype


def test_cpu_memory_is_within_the_machine() -> None:
    assert 0 < free_memory(CPU) <= psutil.virtual_memory().total
