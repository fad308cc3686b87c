from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from swarm import identity
from swarm.bootstrap import group_file
from swarm.bootstrap.group_file import GROUP_FILE
from swarm.errors import ConfigError


def test_a_group_is_its_key(tmp_path: Path) -> None:
    made = group_file.create(tmp_path, "friends")
    loaded = group_file.load(tmp_path)
    assert loaded is not None and loaded.group == made.group
    assert stat.S_IMODE((tmp_path / GROUP_FILE).stat().st_mode) == 0o600
    assert identity.verifies(b"words", loaded.sign(b"words"), made.group.key)


def test_there_may_be_none(tmp_path: Path) -> None:
    assert group_file.load(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_group_can_be_renamed(tmp_path: Path) -> None:
    made = group_file.create(tmp_path, "friends")
    group_file.rename(tmp_path, made, "family")
    loaded = group_file.load(tmp_path)
    assert loaded is not None
    assert (loaded.group.name, loaded.group.key) == ("family", made.group.key)


def test_its_key_is_not_shown(tmp_path: Path) -> None:
    made = group_file.create(tmp_path)
    assert json.loads((tmp_path / GROUP_FILE).read_text())["key"] not in repr(made)


@pytest.mark.parametrize("damage", ["cut", "empty", "other digit", "no hex", "short", "nested"])
def test_a_damaged_key_is_named_and_kept(tmp_path: Path, damage: str) -> None:
    path = tmp_path / GROUP_FILE
    group_file.create(tmp_path)
    text = path.read_text()
    key = json.loads(text)["key"]
    digit = "0" if key[0] != "0" else "1"
    damaged = {
        "cut": text[:20],
        "empty": "",
        "other digit": text.replace(key, digit + key[1:]),
        "no hex": text.replace(key, "x" * 64),
        "short": text.replace(key, key[:-2]),
        "nested": "[" * 9999,
    }[damage]
    assert damaged != text
    path.write_text(damaged)
    with pytest.raises(ConfigError, match=str(path)):
        group_file.load(tmp_path)
    assert path.read_text() == damaged
