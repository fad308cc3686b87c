"""Who we are in a group, and whom it lacks at the moment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from swarm.errors import SwarmError
from swarm.membership.certificate import Role, Standing, above

from ._options import shown
from ._times import until

if TYPE_CHECKING:
    from swarm.invite import Invite
    from swarm.member import Member


@dataclass(frozen=True)
class Belonging:
    """What this machine is in its group, and who of that is away.

    `bootstraps` are those that are heard, by id, and `silent` those that are not. `idle` names the
    members that may serve and do not; None where only an admin may know.
    """

    group: str
    machine: Standing
    bootstraps: tuple[str, ...]
    silent: tuple[str, ...]
    idle: tuple[str, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        machine = self.machine
        return {
            "group": self.group,
            "member": {
                "name": machine.name,
                "member": machine.member,
                "roles": _names(machine),
                "expires": machine.expires,
            },
            "bootstraps": {"heard": list(self.bootstraps), "silent": list(self.silent)},
            "idle": None if self.idle is None else list(self.idle),
        }

    def show(self, console: Console) -> None:
        """For people."""
        machine = self.machine
        roles = ", ".join(_names(machine))
        ends = until(machine.expires, time.time())
        group = f" of {shown(self.group)}" if self.group else ""
        line = f"You are {shown(machine.name)}{group} ({roles}); your certificate holds until"
        console.print(f"{line} {ends}.", highlight=False, soft_wrap=True)
        if not self.bootstraps:
            line = "No bootstrap is heard: nobody can join, and no certificate is renewed."
            console.print(line, highlight=False, style="yellow", soft_wrap=True)
        elif self.silent:
            ids = ", ".join(f"…{peer[-6:]}" for peer in self.silent)
            console.print(f"Not heard: the bootstrap {ids}.", highlight=False, style="yellow")
        if self.idle:
            line = f"Away, or only asking: {shown(', '.join(self.idle))}."
            console.print(line, highlight=False, style="yellow", soft_wrap=True)


async def look(member: Member, invite: Invite) -> Belonging:
    """What can be seen from here; whom the bootstraps know is asked where we are an admin."""
    from swarm.directory import Shelf

    membership = member.membership
    verifies = membership.trust.verifies
    machine = above(membership.credential, member.group, verifies)
    heard = tuple(await member.directory.read(Shelf.AUTHORITIES))
    silent = tuple(each.peer for each in invite.bootstraps if each.peer not in heard)
    idle = await _idle(member, invite, machine) if machine.may(Role.ADMIN) else None
    return Belonging(member.group.name, machine, heard, silent, idle)


async def _idle(member: Member, invite: Invite, machine: Standing) -> tuple[str, ...] | None:
    """Members that may serve, have not been thrown out, and do not announce themselves."""
    from swarm.membership.administration import Administration, stations

    known = await stations(member.directory, invite)
    try:
        roll = await Administration(member.transport, member.membership, known).roll()
    except SwarmError:
        return None
    here = {entry.peer for entry in await member.directory.find()}
    return tuple(
        entry.name
        for entry in roll.members
        if Role.PEER in entry.roles
        and Role.AUTHORITY not in entry.roles
        and not entry.revoked
        and entry.member not in here | {machine.member}
    )


def _names(machine: Standing) -> list[str]:
    return [str(role) for role in Role if machine.may(role)]
