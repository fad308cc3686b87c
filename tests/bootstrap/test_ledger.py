from __future__ import annotations

import dataclasses
import multiprocessing
import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swarm.bootstrap.denial import NotGranted
from swarm.bootstrap.ledger import Ledger, Line
from swarm.errors import ConfigError
from swarm.group import Group
from swarm.membership.certificate import Role
from swarm.wire.enrolment import Decline, Entry, Station

GROUP = Group("a group's key")
NUMBER = b"12345678"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Ledger.create(tmp_path / "ledger", GROUP)
    return tmp_path / "ledger"


@pytest.fixture
def ledger(path: Path, clock) -> Iterator[Ledger]:
    ledger = Ledger(path, GROUP, clock)
    yield ledger
    ledger.close()


def entry(member: str = "m", name: str = "pc", revoked: float = 0.0) -> Entry:
    return Entry(member, name, (Role.CLIENT, Role.PEER), 1.0, 2.0, 3.0, revoked, "issuer")


def line(uses: int = 1, number: bytes = NUMBER) -> Line:
    return Line(number, "writer", Role.PEER, "pc", uses, 1.0, 2e9)


def test_what_is_written_is_read_by_others(path: Path, ledger: Ledger, clock) -> None:
    ledger.write(entry())
    ledger.add(line())
    ledger.meet(Station("s", ("/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1")))
    other = Ledger(path, GROUP, clock)
    assert other.member("m") == other.living("pc") == entry()
    assert other.members() == [entry()]
    assert other.invite(NUMBER) == line()
    assert other.stations() == [Station("s", ("/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1"))]
    assert (other.member("x"), other.living("x"), other.invite(b"x" * 8)) == (None, None, None)
    other.close()


def test_it_is_a_private_file_and_so_is_its_journal(path: Path, ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.write(entry())
        files = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert files == {"ledger": 0o600, "ledger-journal": 0o600}


def test_it_is_durable(ledger: Ledger) -> None:
    """`EXTRA` with a journal that is deleted; WAL would need another answer."""
    assert ledger._ask("PRAGMA synchronous") == [(3,)]
    assert ledger._ask("PRAGMA journal_mode") == [("delete",)]


def test_the_living_have_names_of_their_own(ledger: Ledger) -> None:
    ledger.write(entry("a"))
    with pytest.raises(ConfigError):
        ledger.write(entry("b"))
    ledger.write(entry("a", revoked=5.0))
    ledger.write(entry("b"))
    assert ledger.living("pc") == entry("b")
    assert [each.member for each in ledger.members()] == ["a", "b"]


def test_changes_only_rise(ledger: Ledger, clock) -> None:
    seen = [ledger.change]
    for passed in (0.0, 10.0, -5000.0, 0.0):
        clock.pass_by(passed)
        ledger.write(entry())
        seen.append(ledger.change)
    assert seen == sorted(set(seen))
    assert ledger.changed(seen[-2], 9) == [(seen[-1], entry())]
    assert ledger.changed(seen[-1], 9) == []


def test_a_restored_ledger_does_not_count_anew(path: Path, ledger: Ledger, clock) -> None:
    copy = path.read_bytes()
    ledger.write(entry())
    told = ledger.change
    ledger.close()
    path.write_bytes(copy)
    clock.pass_by(1)
    restored = Ledger(path, GROUP, clock)
    restored.write(entry())
    assert restored.change > told
    restored.close()


def test_changes_come_in_pages(ledger: Ledger) -> None:
    for number in range(5):
        ledger.write(entry(f"m{number}", f"pc{number}"))
    first = ledger.changed(0, 3)
    rest = ledger.changed(first[-1][0], 3)
    assert [each.member for _, each in first + rest] == [f"m{number}" for number in range(5)]


def test_the_revoked_are_listed_with_their_last_change(ledger: Ledger) -> None:
    assert ledger.revoked() == (0, [])
    ledger.write(entry("a", "a", revoked=5.0))
    ledger.write(entry("b", "b", revoked=6.0))
    last = ledger.change
    ledger.write(entry("c", "c"))
    assert ledger.revoked() == (last, [entry("b", "b", 6.0), entry("a", "a", 5.0)])


def test_a_transaction_that_fails_has_not_been(ledger: Ledger) -> None:
    ledger.add(line())
    with pytest.raises(ZeroDivisionError), ledger.transaction():
        ledger.spend(NUMBER, "m")
        ledger.write(entry())
        raise ZeroDivisionError
    assert ledger.invite(NUMBER) == line()
    assert not ledger.has_redeemed(NUMBER, "m")
    assert ledger.members() == []


def test_there_are_no_more_uses_than_there_are(ledger: Ledger) -> None:
    ledger.add(line(uses=1))
    ledger.spend(NUMBER, "m")
    assert ledger.has_redeemed(NUMBER, "m")
    with pytest.raises(ConfigError), ledger.transaction():
        ledger.spend(NUMBER, "n")
    assert not ledger.has_redeemed(NUMBER, "n")


def test_open_invites(ledger: Ledger, clock) -> None:
    for number in (b"spent...", b"withdrwn", b"open...."):
        ledger.add(line(number=number))
    ledger.spend(b"spent...", "m")
    ledger.withdraw(b"withdrwn")
    assert [each.number for each in ledger.invites("writer", 0.0)] == [b"open...."]
    assert ledger.invites("another", 0.0) == []
    assert ledger.invites("writer", 2e9) == []
    assert ledger.invite(b"withdrwn").revoked == clock()


def test_invites_that_somebody_knows(ledger: Ledger) -> None:
    ledger.add(line(uses=2))
    ledger.add(line(uses=1, number=b"spent..."))
    for number in (NUMBER, b"spent..."):
        ledger.spend(number, "m")
    ledger.add(dataclasses.replace(line(number=b"by admin"), author="admin"))
    assert ledger.known_to("m") == [NUMBER]
    assert ledger.known_to("n") == []
    assert ledger.known_to("admin") == [b"by admin"]
    ledger.withdraw(NUMBER)
    assert ledger.known_to("m") == []


def test_stations_that_were_met_last_come_first(ledger: Ledger, clock) -> None:
    for peer in ("a", "b", "a"):
        clock.pass_by(3601)
        ledger.meet(Station(peer, (f"/dns4/{peer}/tcp/1",)))
    assert [each.peer for each in ledger.stations()] == ["a", "b"]
    ledger.forget("a")
    assert [each.peer for each in ledger.stations()] == ["b"]


def test_a_station_that_was_just_met_is_not_written_again(ledger: Ledger, clock) -> None:
    place = Station("a", ("/dns4/a/tcp/1",))
    for passed in (0, 60, 3600):
        clock.pass_by(passed)
        ledger.meet(place)
    assert ledger._ask("SELECT seen FROM stations") == [(clock(),)]
    clock.pass_by(60)
    ledger.meet(place)
    assert ledger._ask("SELECT seen FROM stations") == [(clock() - 60,)]
    ledger.meet(Station("a", ("/dns4/b/tcp/1",)))
    assert ledger._ask("SELECT seen FROM stations") == [(clock(),)]


def test_threads_take_turns(ledger: Ledger) -> None:
    ledger.add(line(uses=1000))

    def spend(number: int) -> None:
        with ledger.transaction():
            ledger.spend(NUMBER, f"m{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spend, range(40)))
    found = ledger.invite(NUMBER)
    assert found is not None and found.uses == 960


def test_another_process_is_waited_for(path: Path, ledger: Ledger) -> None:
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    waiting = threading.Event()

    def let_go() -> None:
        waiting.wait(5)
        holder.execute("COMMIT")

    thread = threading.Thread(target=let_go)
    thread.start()
    waiting.set()
    ledger.write(entry())
    thread.join()
    holder.close()
    assert ledger.members() == [entry()]


def test_another_process_is_not_waited_for_for_ever(
    path: Path, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm.bootstrap.ledger._PATIENCE", 0.01)
    ledger = Ledger(path, GROUP, clock)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(NotGranted, match="in use") as caught:
        ledger.write(entry())
    assert caught.value.why is Decline.BUSY
    with pytest.raises(NotGranted), ledger.transaction():
        pass
    holder.execute("ROLLBACK")
    ledger.write(entry())
    holder.close()
    ledger.close()


def _spend_many(path: Path, first: int, ready, results) -> None:
    ledger = Ledger(path, GROUP, lambda: 1e9)
    ready.wait()
    won = 0
    for number in range(first, first + 20):
        with ledger.transaction():
            found = ledger.invite(NUMBER)
            if found is not None and found.uses:
                ledger.spend(NUMBER, f"m{number}")
                won += 1
    results.put(won)
    ledger.close()


def test_two_processes_spend_what_there_is(path: Path, ledger: Ledger) -> None:
    ledger.add(line(uses=25))
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_spend_many, args=(path, first, ready, results))
        for first in (0, 100)
    ]
    for process in processes:
        process.start()
    won = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(won) == 25


@pytest.mark.parametrize("damage", ["empty", "cut", "no database", "other program", "page"])
def test_a_damaged_ledger_is_named_and_kept(path: Path, ledger: Ledger, clock, damage: str) -> None:
    with ledger.transaction():
        for number in range(100):
            ledger.write(entry(f"m{number}", f"pc{number}"))
    ledger.close()
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "no database": b"members: none" * 999,
        "other program": content[:68] + b"\0\0\0\1" + content[72:],
        "page": content[:8192] + b"\xff" * 4096 + content[12288:],
    }[damage]
    assert damaged != content
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match=rf"{path} is damaged"):
        Ledger(path, GROUP, clock)
    assert path.read_bytes() == damaged


def test_damage_is_noticed_while_it_runs(path: Path, ledger: Ledger) -> None:
    ledger.write(entry())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE members SET roles = 'king'")
    connection.close()
    with pytest.raises(ConfigError, match=rf"{path} is damaged"):
        ledger.members()


def test_a_full_disk_is_no_damage_and_nothing_is_half_written(
    path: Path, ledger: Ledger, clock
) -> None:
    """Who was told to restore a copy would bring back those who were removed since."""
    ledger.add(line(uses=1000))
    ((pages,),) = ledger._ask("PRAGMA page_count")
    ledger._ask(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ConfigError, match=f"cannot use the ledger {path}: .*full") as caught:
        for number in range(1000):
            with ledger.transaction():
                ledger.spend(NUMBER, f"m{number}")
                ledger.write(entry(f"m{number}", f"pc-{number}"))
    assert "damaged" not in str(caught.value)
    ledger._ask("PRAGMA max_page_count = 10000")
    assert number == len(ledger.members()) == 1000 - ledger.invite(NUMBER).uses > 0
    ledger.write(entry())


def test_a_ledger_of_a_newer_program_is_left_alone(path: Path, clock) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(ConfigError, match="version 2; this program knows 1"):
        Ledger(path, GROUP, clock)


def test_a_ledger_is_of_one_group(path: Path, clock) -> None:
    with pytest.raises(ConfigError, match="of another group"):
        Ledger(path, Group("another key"), clock)


def test_opening_makes_nothing(tmp_path: Path, clock) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path / "none")):
        Ledger(tmp_path / "none", GROUP, clock)
    assert list(tmp_path.iterdir()) == []


def test_the_journal_of_a_lost_ledger_is_not_played_into_a_new_one(
    path: Path, ledger: Ledger, clock
) -> None:
    ledger.write(entry())
    with ledger.transaction():
        ledger.write(entry("n", "nuc"))
        journal = path.with_name("ledger-journal").read_bytes()
    ledger.close()
    path.unlink()
    path.with_name("ledger-journal").write_bytes(journal)
    Ledger.create(path, GROUP)
    new = Ledger(path, GROUP, clock)
    assert new.members() == []
    new.close()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        Ledger.create(tmp_path / "nowhere" / "ledger", GROUP)
