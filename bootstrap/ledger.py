"""The ledger: who was admitted, by which invites, and who was thrown out. One SQLite file.

The running bootstrap and `swarm invite`, `members` and `revoke` use it at the same time. A
transaction that has returned is on the disk, also after a power cut: what was spent stays spent.
So the journal is a file that is deleted at each commit (with `synchronous=EXTRA` its folder is
synced, too), and a copy of the ledger is one file, whole.
Source: https://www.sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from swarm import state
from swarm.errors import ConfigError
from swarm.group import Group
from swarm.membership.certificate import Role
from swarm.wire.enrolment import Decline, Entry, Station

from .denial import NotGranted

VERSION = 1
_APPLICATION = 0x48535741
"""Tells our file from other programs' (`PRAGMA application_id`)."""

_PATIENCE = 5.0
"""Seconds that one process waits for another's transaction."""

_UNWRITABLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
)
"""The machine is at fault and not the file: a copy put in its place would only forget things."""

_SEEN = 3600
"""Seconds after which it is noted that an authority was met again where it was."""

_SCHEMA = f"""
CREATE TABLE members (
    member TEXT PRIMARY KEY, name TEXT NOT NULL, roles TEXT NOT NULL, joined REAL NOT NULL,
    renewed REAL NOT NULL, expires REAL NOT NULL, revoked REAL NOT NULL, issuer TEXT NOT NULL,
    change INTEGER NOT NULL UNIQUE
);
CREATE UNIQUE INDEX living_names ON members (name) WHERE revoked = 0;
CREATE TABLE invites (
    number BLOB PRIMARY KEY, writer TEXT NOT NULL, role TEXT NOT NULL, name TEXT NOT NULL,
    uses INTEGER NOT NULL CHECK (uses >= 0), written REAL NOT NULL, expires REAL NOT NULL,
    revoked REAL NOT NULL DEFAULT 0, author TEXT NOT NULL, is_first INTEGER NOT NULL
);
CREATE TABLE redemptions (
    number BLOB NOT NULL REFERENCES invites, member TEXT NOT NULL, time REAL NOT NULL,
    PRIMARY KEY (number, member)
);
CREATE TABLE stations (
    peer TEXT PRIMARY KEY, addresses TEXT NOT NULL, seen REAL NOT NULL
);
CREATE TABLE origin (group_id TEXT NOT NULL);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
"""

_MEMBER = "member, name, roles, joined, renewed, expires, revoked, issuer"
_UPDATE = ", ".join(f"{field} = excluded.{field}" for field in [*_MEMBER.split(", "), "change"])
_INVITE = "number, writer, role, name, uses, written, expires, revoked, author, is_first"


@dataclass(frozen=True)
class Line:
    """An invite in the ledger; `uses` are left of it. Times are seconds since 1970.

    `writer` is the authority that takes it, `author` the admin that has had it written, if it was
    not the owner of the folder. One that `is_first` is printed at each start.
    """

    number: bytes
    writer: str
    role: Role
    name: str
    uses: int
    written: float
    expires: float
    revoked: float = 0.0
    author: str = ""
    is_first: bool = False


class Ledger:
    """The open ledger of one group; its methods may be called from any thread.

    They raise `ConfigError` that names the file if it is damaged or the disk is full, and
    `NotGranted` if another process does not let go of it. `clock` gives seconds since 1970.
    """

    def __init__(self, path: Path, group: Group, clock: Callable[[], float]) -> None:
        self.path = path
        self._group = group
        self._clock = clock
        # Waiting for another thread is as for another process: in turn.
        self._turn = threading.RLock()
        with self._translated():
            self._connection = sqlite3.connect(
                # A missing file is not made by opening it: an empty ledger forgets who was revoked.
                f"{path.resolve().as_uri()}?mode=rw",
                timeout=_PATIENCE,
                isolation_level=None,
                check_same_thread=False,
                uri=True,
            )
            try:
                self._check()
            except BaseException:
                self._connection.close()
                raise

    @staticmethod
    def create(path: Path, group: Group) -> None:
        """Writes a new ledger; it appears whole or not at all. The caller knows there is none."""
        try:
            with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
                draft = Path(folder) / path.name
                # SQLite gives its journals the mode of the file that they belong to.
                os.close(os.open(draft, os.O_CREAT | os.O_EXCL, 0o600))
                with closing(sqlite3.connect(draft)) as connection:
                    connection.executescript(_SCHEMA)
                    connection.execute("INSERT INTO origin VALUES (?)", (group.id,))
                    connection.commit()
                # One that a lost ledger has left would be played into this one.
                path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
                os.rename(draft, path)
            state.sync_folder(path.parent)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"cannot write {path}: {error}") from error

    def close(self) -> None:
        """Closes the file once nobody uses it; may be called again."""
        with self._turn:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything in the block happens at once, and is on the disk when it ends, or never."""
        with self._turn, self._translated():
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    # Members

    @property
    def change(self) -> int:
        """The number of the last change to a member."""
        ((change,),) = self._ask("SELECT coalesce(max(change), 0) FROM members")
        return int(change)

    def member(self, peer: str) -> Entry | None:
        """The member with this id."""
        rows = self._ask(f"SELECT {_MEMBER} FROM members WHERE member = ?", peer)
        return self._entry(*rows[0]) if rows else None

    def living(self, name: str) -> Entry | None:
        """The member of this name that was not revoked."""
        rows = self._ask(f"SELECT {_MEMBER} FROM members WHERE name = ? AND revoked = 0", name)
        return self._entry(*rows[0]) if rows else None

    def members(self) -> list[Entry]:
        """All members that there ever were, in the order in which they joined."""
        rows = self._ask(f"SELECT {_MEMBER} FROM members ORDER BY joined, member")
        return [self._entry(*row) for row in rows]

    def changed(self, since: int, limit: int) -> list[tuple[int, Entry]]:
        """The next members that have changed after the change `since`, each with its change."""
        question = f"SELECT change, {_MEMBER} FROM members WHERE change > ? ORDER BY change LIMIT ?"
        return [(row[0], self._entry(*row[1:])) for row in self._ask(question, since, limit)]

    def revoked(self) -> tuple[int, list[Entry]]:
        """Who was thrown out, the last one first, and the number of the last change to any."""
        question = f"SELECT change, {_MEMBER} FROM members WHERE revoked > 0 ORDER BY revoked DESC"
        rows = self._ask(question)
        return max((row[0] for row in rows), default=0), [self._entry(*row[1:]) for row in rows]

    def write(self, entry: Entry) -> None:
        """Adds a member, or replaces what is known of it."""
        row = (*msgspec.structs.astuple(entry),)
        roles = " ".join(entry.roles)
        # By the clock, so that a ledger from a backup does not count anew what others have seen.
        now = int(self._clock() * 1e6)
        self._ask(
            f"INSERT INTO members ({_MEMBER}, change) VALUES (?, ?, ?, ?, ?, ?, ?, ?,"
            " max(?, (SELECT coalesce(max(change), 0) + 1 FROM members)))"
            f" ON CONFLICT (member) DO UPDATE SET {_UPDATE}",
            *(*row[:2], roles, *row[3:]),
            now,
        )

    # Invites

    def invite(self, number: bytes) -> Line | None:
        """The invite with this number."""
        rows = self._ask(f"SELECT {_INVITE} FROM invites WHERE number = ?", number)
        return self._line(*rows[0]) if rows else None

    def invites(self, writer: str, now: float) -> list[Line]:
        """The invites of one authority that can be used now, in the order of writing."""
        rows = self._ask(
            f"SELECT {_INVITE} FROM invites WHERE writer = ? AND uses > 0 AND expires > ?"
            " AND revoked = 0 ORDER BY written, number",
            writer,
            now,
        )
        return [self._line(*row) for row in rows]

    def add(self, line: Line) -> None:
        """Adds an invite."""
        self._ask(
            f"INSERT INTO invites ({_INVITE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(line.number, line.writer, line.role, line.name, line.uses),
            *(line.written, line.expires, line.revoked, line.author, line.is_first),
        )

    def withdraw(self, number: bytes) -> None:
        """Takes an invite back."""
        self._ask("UPDATE invites SET revoked = ? WHERE number = ?", self._clock(), number)

    def spend(self, number: bytes, member: str) -> None:
        """Notes that this member has used one use of the invite; there must be one."""
        self._ask("UPDATE invites SET uses = uses - 1 WHERE number = ?", number)
        self._ask("INSERT INTO redemptions VALUES (?, ?, ?)", number, member, self._clock())

    def has_redeemed(self, number: bytes, member: str) -> bool:
        """Whether this member has come with this invite before."""
        question = "SELECT 1 FROM redemptions WHERE number = ? AND member = ?"
        return bool(self._ask(question, number, member))

    def known_to(self, member: str) -> list[bytes]:
        """The numbers of the invites that it has used or had written, and that can be used yet."""
        rows = self._ask(
            "SELECT number FROM invites WHERE uses > 0 AND revoked = 0 AND (author = ? OR number IN"
            " (SELECT number FROM redemptions WHERE member = ?)) ORDER BY number",
            *(member, member),
        )
        return [number for (number,) in rows]

    # Stations

    def stations(self) -> list[Station]:
        """Authorities, and where they are reached; those that were met last come first."""
        rows = self._ask("SELECT peer, addresses FROM stations ORDER BY seen DESC, peer")
        return [Station(peer, tuple(addresses.split())) for peer, addresses in rows]

    def meet(self, station: Station) -> None:
        """Notes where an authority is reached now; writes what is news."""
        self._ask(
            "INSERT INTO stations VALUES (?, ?, ?) ON CONFLICT (peer) DO UPDATE"
            " SET addresses = excluded.addresses, seen = excluded.seen"
            f" WHERE addresses != excluded.addresses OR seen < excluded.seen - {_SEEN}",
            *(station.peer, " ".join(station.addresses), self._clock()),
        )

    def forget(self, peer: str) -> None:
        """Forgets an authority's addresses."""
        self._ask("DELETE FROM stations WHERE peer = ?", peer)

    def _ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        with self._turn, self._translated():
            return self._connection.execute(question, values).fetchall()

    def _entry(self, *row: object) -> Entry:
        fields = [*row[:2], str(row[2]).split(), *row[3:]]
        try:
            return msgspec.convert(fields, Entry)
        except msgspec.ValidationError as error:
            raise ConfigError(self._damaged(error)) from error

    def _line(self, *row: object) -> Line:
        fields = dict(zip(Line.__annotations__, (*row[:-1], bool(row[-1])), strict=True))
        try:
            return msgspec.convert(fields, Line)
        except msgspec.ValidationError as error:
            raise ConfigError(self._damaged(error)) from error

    def _check(self) -> None:
        self._connection.execute("PRAGMA synchronous = EXTRA")
        self._connection.execute("PRAGMA foreign_keys = ON")
        pragmas = ("quick_check(1)", "application_id", "user_version")
        answers = [self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
        if answers[:2] != ["ok", _APPLICATION]:
            raise ConfigError(self._damaged("it is no ledger, or not whole"))
        if answers[2] != VERSION:
            raise ConfigError(
                f"the ledger {self.path} is of version {answers[2]}; this program knows {VERSION}"
            )
        if self._connection.execute("SELECT group_id FROM origin").fetchall() != [
            (self._group.id,)
        ]:
            raise ConfigError(f"the ledger {self.path} is of another group; restore the right one")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                why = "the ledger is in use by another program for long; try again"
                raise NotGranted(Decline.BUSY, why) from error
            if code == sqlite3.SQLITE_CANTOPEN:
                raise ConfigError(f"cannot open the ledger {self.path}") from error
            if code in _UNWRITABLE:
                raise ConfigError(f"cannot use the ledger {self.path}: {error}") from error
            raise ConfigError(self._damaged(error)) from error

    def _damaged(self, why: object) -> str:
        return f"the ledger {self.path} is damaged ({why}); restore it from a copy"
