"""Names of devices and number types; memory within a container's limit."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from swarm.errors import ConfigError
from swarm.peer import devices
from swarm.peer.devices import cgroup_free, choose_device, choose_dtype, free_memory

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


def _group(folder: Path, limit: str, used: int, cache: int, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        2: ("memory.max", "memory.current"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    }
    (folder / names[version][0]).write_text(f"{limit}\n")
    (folder / names[version][1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\nactive_file 7\n")


def test_the_tightest_group_counts(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/user/app\n")
    _group(tmp_path / "fs/user/app", "1000", 400, 100)
    assert cgroup_free(membership, tmp_path / "fs") == 700
    _group(tmp_path / "fs/user", "900", 450, 0)
    assert cgroup_free(membership, tmp_path / "fs") == 450
    _group(tmp_path / "fs/user", "max", 450, 0)
    assert cgroup_free(membership, tmp_path / "fs") == 700


def test_version_1_and_a_path_from_outside(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("5:cpu,memory:/docker/abc\n4:freezer:/x\n")
    _group(tmp_path / "fs/memory", "1000", 250, 0, version=1)
    assert cgroup_free(membership, tmp_path / "fs") == 750


def test_no_groups_no_limit(tmp_path: Path) -> None:
    assert cgroup_free(tmp_path / "none", tmp_path) is None
    membership = tmp_path / "cgroup"
    membership.write_text("0::/\n")
    assert cgroup_free(membership, tmp_path) is None
