"""What an invite lets somebody do, in words."""

from __future__ import annotations

from swarm.membership.certificate import Role

from ._times import until

MAY = {
    Role.CLIENT: "ask the swarm",
    Role.PEER: "contribute a machine, and ask the swarm",
    Role.ADMIN: "contribute a machine, ask the swarm, and invite and throw out others",
    Role.AUTHORITY: "be a second bootstrap: admit, certify and throw out others",
}
"""By the role that somebody is invited as."""


def meaning(role: Role, uses: int, expires: float, now: float, name: str = "") -> str:
    """Who may do what, until when; times are seconds since 1970."""
    who = "One machine" if uses == 1 else f"{uses} machines"
    called = f' as "{name}"' if name else ""
    return f"{who} can join with it{called}, until {until(expires, now)}, and may then {MAY[role]}."


def commands(role: Role) -> tuple[str, ...]:
    """What to run with such an invite."""
    run = 'swarm run --join INVITE --model MODEL "Why is the sky blue?"'
    if role is Role.AUTHORITY:
        return ("swarm bootstrap --dir DIR --join INVITE",)
    if role is Role.CLIENT:
        return (run,)
    return ("swarm peer --join INVITE --model MODEL", run)
