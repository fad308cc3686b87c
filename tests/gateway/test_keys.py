"""Keys: given out once, kept as hashes, and gone at once when they are revoked."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from swarm.errors import ConfigError, RequestError
from swarm.gateway.keys import LEAST, PREFIX, KeyFile, Keys, given

OWN = "k" * LEAST


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "gateway")


def name_of(keys: Keys, key: str) -> str | None:
    return found.name if (found := keys.find(key)) else None


async def test_a_key_is_known_and_only_its_hash_is_kept(file: KeyFile) -> None:
    key = await file.add("laptop")
    assert key.startswith(PREFIX) and len(key) > len(PREFIX) + 40
    assert name_of(Keys(file=file), key) == "laptop"
    assert name_of(Keys(file=file), key + "x") is None
    assert key[len(PREFIX) :] not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


async def test_what_is_added_and_revoked_counts_at_once(file: KeyFile) -> None:
    running = Keys(file=file)
    assert not running.required
    first = await file.add("one")
    assert running.required and name_of(running, first) == "one"
    second = await file.add("two")
    assert name_of(running, second) == "two"
    await file.revoke("one")
    assert name_of(running, first) is None and name_of(running, second) == "two"


async def test_the_last_key_revoked_opens_no_door(file: KeyFile) -> None:
    running = Keys(file=file)
    key = await file.add("one")
    assert name_of(running, key) == "one"
    await file.revoke("one")
    assert running.required and name_of(running, key) is None
    file.path.unlink()
    assert running.required


async def test_a_damaged_file_lets_nobody_in(
    file: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    key = await file.add("one")
    running = Keys(file=file)
    file.path.write_text('{"keys": [{}]}')
    assert running.required and name_of(running, key) is None
    assert "keys not read" in caplog.text
    caplog.clear()
    with pytest.raises(ConfigError, match="damaged"):
        Keys(file=file)


async def test_a_name_is_given_once(file: KeyFile) -> None:
    await file.add("one")
    with pytest.raises(RequestError, match="already"):
        await file.add("one")
    with pytest.raises(RequestError, match="no key"):
        await file.revoke("two")


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", "a\nb", "n" * 65, "ä"])
async def test_names_are_plain(file: KeyFile, name: str) -> None:
    with pytest.raises(RequestError, match="no name"):
        await file.add(name)
    assert not file.path.exists()


async def test_two_who_add_at_the_same_time_both_do(file: KeyFile) -> None:
    keys = await asyncio.gather(*(file.add(f"key-{number}") for number in range(5)))
    known = Keys(file=file)
    assert [name_of(known, key) for key in keys] == [f"key-{number}" for number in range(5)]


def test_keys_of_ones_own_may_have_a_name() -> None:
    keys = Keys(given([f"editor={OWN}", f"{OWN}2", f"{OWN}3="]))
    assert keys.required
    assert name_of(keys, OWN) == "editor"
    assert name_of(keys, f"{OWN}2") == "given-2"
    assert name_of(keys, f"{OWN}3=") == "given-3"
    assert keys.find("") is None and keys.find("\udcff") is None


@pytest.mark.parametrize(
    "text", ["", "=", "short", "editor=short", f"{OWN} {OWN}", f"edi tor={OWN}", "ä" * 30]
)
def test_keys_that_can_be_guessed_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        given([text])
    assert not text or text not in str(error.value), "an error is shown and logged"


def test_a_name_stands_for_one_key() -> None:
    with pytest.raises(ConfigError, match="same name"):
        given([f"a={OWN}", f"a={OWN}2"])
