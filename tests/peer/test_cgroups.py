"""What control groups leave to this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.peer.cgroups import cpu_quota, memory_free, memory_limit
from swarm.peer.config import PeerConfig


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
    assert memory_free(membership, tmp_path / "fs") == 700
    _group(tmp_path / "fs/user", "900", 450, 0)
    assert memory_free(membership, tmp_path / "fs") == 450
    _group(tmp_path / "fs/user", "max", 450, 0)
    assert memory_free(membership, tmp_path / "fs") == 700


def test_version_1_and_a_path_from_outside(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("5:cpu,memory:/docker/abc\n4:freezer:/x\n")
    _group(tmp_path / "fs/memory", "1000", 250, 0, version=1)
    assert memory_free(membership, tmp_path / "fs") == 750


def test_no_groups_no_limit(tmp_path: Path) -> None:
    assert memory_free(tmp_path / "none", tmp_path) is None
    membership = tmp_path / "cgroup"
    membership.write_text("0::/\n")
    assert memory_free(membership, tmp_path) is None


def test_the_limit_is_what_it_is_whatever_is_left(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/user/app\n")
    _group(tmp_path / "fs/user/app", "1000", 400, 100)
    _group(tmp_path / "fs/user", "900", 100, 0)
    assert memory_limit(membership, tmp_path / "fs") == 900
    assert memory_limit(tmp_path / "none", tmp_path) is None


def test_the_tightest_quota_counts(tmp_path: Path) -> None:
    membership, group = tmp_path / "cgroup", tmp_path / "fs" / "a" / "b"
    membership.write_text("0::/a/b\n")
    group.mkdir(parents=True)
    assert cpu_quota(membership, tmp_path / "fs") is None
    (group / "cpu.max").write_text("max 100000\n")
    (group.parent / "cpu.max").write_text("150000 100000\n")
    assert cpu_quota(membership, tmp_path / "fs") == 1.5
    assert cpu_quota(tmp_path / "nothing", tmp_path) is None


def test_a_quota_of_version_1(tmp_path: Path) -> None:
    membership, group = tmp_path / "cgroup", tmp_path / "fs" / "cpu,cpuacct"
    membership.write_text("4:cpu,cpuacct:/docker/abc\n")
    group.mkdir(parents=True)
    (tmp_path / "fs" / "cpu").symlink_to(group)
    (group / "cpu.cfs_period_us").write_text("100000\n")
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_quota(membership, tmp_path / "fs") is None
    (group / "cpu.cfs_quota_us").write_text("50000\n")
    assert cpu_quota(membership, tmp_path / "fs") == 0.5


@pytest.mark.parametrize(("quota", "threads"), [(None, 8), (1.5, 2), (0.05, 1), (64.0, 8)])
def test_a_container_has_the_cores_that_it_may_use(monkeypatch, quota, threads) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("swarm.peer.config.cpu_quota", lambda: quota)
    assert PeerConfig().num_threads == threads
    assert PeerConfig(threads=3).num_threads == 3
