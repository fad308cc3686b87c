"""Authorities in folders of their own, on a clock that tests set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from swarm import identity
from swarm.bootstrap import office
from swarm.bootstrap.authority import Authority
from swarm.bootstrap.config import Terms
from swarm.membership.certificate import Role
from swarm.wire.enrolment import Station


@dataclass
class Clock:
    """Seconds since 1970, as the test wants them."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Town:
    """Authorities and machines, each in a folder of its own."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.stack = ExitStack()

    def machine(self, name: str) -> identity.Identity:
        """A machine's key: the same one for the same name."""
        return identity.load_or_create(self.folder / f"{name}.identity")

    def found(self, name: str = "first", terms: Terms | None = None) -> Authority:
        """The authority of a group in this folder; a new group if the folder is new."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        office.found(folder, None, self.clock)
        return self._enter(folder, terms)

    def deputy(self, above: Authority, name: str) -> Authority:
        """One more authority of the same group."""
        folder = self.folder / name
        folder.mkdir()
        me = office.applicant(folder, above.group)
        assert me is not None
        ticket = above.invite(Role.AUTHORITY, name=name).ticket
        office.deputize(folder, above.group, above.redeem(ticket, me.peer_id))
        return self._enter(folder, None)

    def _enter(self, folder: Path, terms: Terms | None) -> Authority:
        authority = self.stack.enter_context(Authority.open(folder, terms, clock=self.clock))
        authority.enter()
        authority.meet(Station(authority.peer_id, ("/ip4/192.0.2.1/tcp/4001",)))
        return authority


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def town(clock: Clock) -> Iterator[Town]:
    # In memory where that is: what is written here waits for a disk many times.
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        town = Town(Path(folder), clock)
        with town.stack:
            yield town


@pytest.fixture
def authority(town: Town) -> Authority:
    """The first authority of a new group."""
    return town.found()


@pytest.fixture
def machine(town: Town) -> Callable[[str], identity.Identity]:
    return town.machine
