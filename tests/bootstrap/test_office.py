from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from swarm import identity
from swarm.bootstrap import office
from swarm.bootstrap.group_file import GROUP_FILE
from swarm.bootstrap.office import (
    AUTHORITY_FILE,
    AUTHORITY_LIFETIME,
    IDENTITY_FILE,
    LEDGER_FILE,
)
from swarm.errors import ConfigError
from swarm.membership.certificate import Role, Standing, examine

FILES = (GROUP_FILE, IDENTITY_FILE, LEDGER_FILE, AUTHORITY_FILE)


def standing(seat: office.Office) -> Standing:
    return examine(seat.credential, seat.group, identity.verifies)


def test_a_folder_is_one_group(tmp_path: Path, clock) -> None:
    seat = office.found(tmp_path, "friends", clock)
    assert seat.group.name == "friends"
    assert standing(seat).may(Role.AUTHORITY)
    assert standing(seat).issuers == {seat.group.key}
    clock.pass_by(86400)
    assert office.found(tmp_path, None, clock) == seat
    assert office.reopen(tmp_path) == seat


def test_nobody_else_can_read_it(tmp_path: Path, clock) -> None:
    office.found(tmp_path, None, clock)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(FILES, 0o600)


def test_a_group_can_be_renamed(tmp_path: Path, clock) -> None:
    seat = office.found(tmp_path, "friends", clock)
    renamed = office.found(tmp_path, "family", clock)
    assert (renamed.group.name, renamed.group.key) == ("family", seat.group.key)
    assert renamed.credential == seat.credential
    assert office.reopen(tmp_path).group.name == "family"


@pytest.mark.parametrize("written", range(len(FILES)))
def test_a_first_start_that_was_interrupted_goes_on(tmp_path: Path, clock, written: int) -> None:
    first = office.found(tmp_path, None, clock)
    for name in FILES[written + 1 :]:
        (tmp_path / name).unlink()
    again = office.found(tmp_path, None, clock)
    assert again.group == first.group
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    if written:
        assert again.me == first.me


@pytest.mark.parametrize("left", [{IDENTITY_FILE}, {LEDGER_FILE}, {AUTHORITY_FILE, IDENTITY_FILE}])
def test_a_lost_key_is_no_new_group(tmp_path: Path, clock, left: set[str]) -> None:
    office.found(tmp_path, None, clock)
    for name in {*FILES} - left:
        (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=f"{GROUP_FILE} is missing"):
        office.found(tmp_path, None, clock)
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_lost_key_is_noticed_by_the_commands(tmp_path: Path, clock) -> None:
    office.found(tmp_path, None, clock)
    (tmp_path / GROUP_FILE).unlink()
    with pytest.raises(ConfigError, match=f"{GROUP_FILE} is missing"):
        office.reopen(tmp_path)


def test_a_lost_ledger_is_no_empty_one(tmp_path: Path, clock) -> None:
    seat = office.found(tmp_path, None, clock)
    (tmp_path / LEDGER_FILE).unlink()
    office.found(tmp_path, None, clock)
    with pytest.raises(ConfigError, match=f"{LEDGER_FILE} is missing"):
        office.open_ledger(tmp_path, seat.group, clock)
    assert not (tmp_path / LEDGER_FILE).exists()
    # As the message says.
    (tmp_path / AUTHORITY_FILE).unlink()
    office.found(tmp_path, None, clock)
    office.open_ledger(tmp_path, seat.group, clock).close()


def test_a_lost_certificate_is_made_again(tmp_path: Path, clock) -> None:
    seat = office.found(tmp_path, None, clock)
    (tmp_path / AUTHORITY_FILE).unlink()
    clock.pass_by(5)
    again = office.found(tmp_path, None, clock)
    assert again.me == seat.me
    assert standing(again).begins == standing(seat).begins + 5


def test_a_lost_identity_is_a_new_one_of_the_same_group(tmp_path: Path, clock, caplog) -> None:
    seat = office.found(tmp_path, None, clock)
    (tmp_path / IDENTITY_FILE).unlink()
    again = office.found(tmp_path, None, clock)
    assert again.group == seat.group
    assert again.me.peer_id != seat.me.peer_id
    assert standing(again).peer == again.me.peer_id
    assert "identity lost" in caplog.text


@pytest.mark.parametrize("passed", [0.6 * AUTHORITY_LIFETIME, -3600.0])
def test_a_certificate_that_is_not_good_for_long_is_made_again(
    tmp_path: Path, clock, passed: float
) -> None:
    """It ends one day, and it began too late if the clock was ahead when it was made."""
    office.found(tmp_path, None, clock)
    clock.pass_by(passed)
    seat = office.found(tmp_path, None, clock)
    assert standing(seat).begins == clock()
    assert standing(seat).expires == clock() + AUTHORITY_LIFETIME


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"damaged", b"[" * 9999, b"\xff" * 5000])
def test_damaged_files_are_named_and_kept(tmp_path: Path, clock, name: str, content: bytes) -> None:
    seat = office.found(tmp_path, None, clock)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=str(tmp_path / name)):
        office.found(tmp_path, None, clock)
        office.open_ledger(tmp_path, seat.group, clock)
    assert (tmp_path / name).read_bytes() == content


def test_files_of_two_groups_do_not_mix(tmp_path: Path, clock) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        office.found(folder, None, clock)
    shutil.copy(one / LEDGER_FILE, other / LEDGER_FILE)
    with pytest.raises(ConfigError, match="of another group"):
        office.open_ledger(other, office.reopen(other).group, clock)
    shutil.copy(one / AUTHORITY_FILE, other / AUTHORITY_FILE)
    with pytest.raises(ConfigError, match="not of this identity"):
        office.reopen(other)


def test_where_no_bootstrap_has_run_the_commands_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="swarm bootstrap --dir"):
        office.reopen(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_deputy_stands_below_and_holds_no_key(town, authority) -> None:
    deputy = town.deputy(authority, "second")
    folder = town.folder / "second"
    assert {path.name for path in folder.iterdir()} == {*FILES} - {GROUP_FILE}
    seat = office.found(folder, None, town.clock)
    assert seat == office.reopen(folder)
    assert seat.group == authority.group
    assert standing(seat).issuers == {authority.group.key, authority.peer_id}
    assert office.applicant(folder, authority.group) is None
    assert deputy.peer_id == seat.me.peer_id


def test_a_deputy_does_not_name_the_group(town, authority) -> None:
    town.deputy(authority, "second")
    with pytest.raises(ConfigError, match="named by the bootstrap that has founded it"):
        office.found(town.folder / "second", "mine", town.clock)


def test_a_deputy_without_its_identity_does_not_start(town, authority) -> None:
    town.deputy(authority, "second")
    (town.folder / "second" / IDENTITY_FILE).unlink()
    with pytest.raises(ConfigError, match="identity is missing"):
        office.found(town.folder / "second", None, town.clock)


def test_an_application_that_was_interrupted_goes_on(town, authority) -> None:
    folder = town.folder / "second"
    folder.mkdir()
    me = office.applicant(folder, authority.group)
    assert office.applicant(folder, authority.group) == me
    with pytest.raises(ConfigError, match="give its invite again"):
        office.found(folder, None, town.clock)


def test_a_folder_joins_no_other_group(town, authority) -> None:
    town.found("other")
    town.deputy(authority, "second")
    with pytest.raises(ConfigError, match="belongs to a group already"):
        office.applicant(town.folder / "other", authority.group)
    with pytest.raises(ConfigError, match="belongs to a group already"):
        office.applicant(town.folder / "second", town.found("other").group)


def test_only_an_authority_has_an_office(town, authority) -> None:
    folder = town.folder / "second"
    folder.mkdir()
    me = office.applicant(folder, authority.group)
    ticket = authority.invite(Role.ADMIN).ticket
    with pytest.raises(ConfigError, match="role authority"):
        office.deputize(folder, authority.group, authority.redeem(ticket, me.peer_id))
    assert {path.name for path in folder.iterdir()} == {IDENTITY_FILE}
