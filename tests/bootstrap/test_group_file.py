from __future__ import annotations

import stat
from pathlib import Path

import pytest

from swarm import identity
from swarm.bootstrap import group_file
from swarm.bootstrap.group_file import GROUP_FILE, IDENTITY_FILE
from swarm.errors import ConfigError


def test_a_folder_is_one_group(tmp_path: Path) -> None:
    group = group_file.load_or_create(tmp_path, "friends")
    assert group.name == "friends"
    assert group_file.load_or_create(tmp_path) == group
    assert stat.S_IMODE((tmp_path / GROUP_FILE).stat().st_mode) == 0o600


def test_a_group_can_be_renamed(tmp_path: Path) -> None:
    group = group_file.load_or_create(tmp_path, "friends")
    renamed = group_file.load_or_create(tmp_path, "family")
    assert (renamed.name, renamed.id) == ("family", group.id)
    assert group_file.load_or_create(tmp_path).name == "family"


def test_a_lost_secret_is_no_new_group(tmp_path: Path) -> None:
    group_file.load_or_create(tmp_path)
    identity.create(tmp_path / IDENTITY_FILE)
    (tmp_path / GROUP_FILE).unlink()
    with pytest.raises(ConfigError, match=rf"{GROUP_FILE} is missing"):
        group_file.load_or_create(tmp_path)
    assert not (tmp_path / GROUP_FILE).exists()


def test_a_first_start_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    group = group_file.load_or_create(tmp_path)
    assert not (tmp_path / IDENTITY_FILE).exists()
    assert group_file.load_or_create(tmp_path) == group


@pytest.mark.parametrize("damage", ["cut", "empty", "other digit", "no hex", "other shape"])
def test_a_damaged_secret_is_named_and_kept(tmp_path: Path, damage: str) -> None:
    path = tmp_path / GROUP_FILE
    group = group_file.load_or_create(tmp_path)
    text = path.read_text()
    digit = "0" if group.secret.hex()[0] != "0" else "1"
    damaged = {
        "cut": text[:20],
        "empty": "",
        "other digit": text.replace(group.secret.hex(), digit + group.secret.hex()[1:]),
        "no hex": text.replace(group.secret.hex(), "x" * 64),
        "other shape": "[" * 9999,
    }[damage]
    assert damaged != text
    path.write_text(damaged)
    with pytest.raises(ConfigError, match=str(path)):
        group_file.load_or_create(tmp_path)
    assert path.read_text() == damaged
