from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from swarm import state
from swarm.errors import ConfigError

HOLD = """
import sys
from pathlib import Path
from swarm import state
with state.lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    state.replace(path, b"one")
    state.replace(path, b"two")
    assert state.read(path) == b"two"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    state.replace(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match=r"file: No space left"):
        state.replace(path, b"new")
    assert state.read(path) == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    assert state.read(tmp_path / "missing") is None
    with pytest.raises(ConfigError, match=str(tmp_path)):
        state.read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file"):
        state.make_folder(tmp_path / "file" / "folder")


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    state.make_folder(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_folder_has_one_holder_and_is_free_after(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with state.lock(folder):
        with pytest.raises(ConfigError, match="in use by process"), state.lock(folder):
            pass
    with state.lock(folder):
        pass


def test_the_holder_is_named_and_its_death_frees_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"{tmp_path} is in use by process {holder.pid}$"):
            with state.lock(tmp_path):
                pass
        holder.kill()
        holder.wait()
        with state.lock(tmp_path):
            pass
