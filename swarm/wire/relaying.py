"""What members and relays say to each other; `messages.decode` understands it.

Between a member and a relay (`swarm.transport.relay`), and between two that it has joined
(`swarm.transport.punch`):

    member -> relay Probe, Reserve, Connect
    relay -> member Probed, Reserved, Connected, Refused; Visit, on a stream of its own
    both members    Knock, Knocked
"""

from __future__ import annotations

from enum import StrEnum

from .fields import Addresses, Message, PeerId, Text


class Refusal(StrEnum):
    """Why a relay does not do what it was asked; `swarm.transport.control` makes errors of them."""

    NO_RELAY = "no_relay"
    FULL = "full"
    NOT_HERE = "not_here"


class Probe(Message, frozen=True, tag="probe"):
    """Asks whether a new connection reaches us at one of these. Answered by `Probed`."""

    addresses: Addresses


class Probed(Message, frozen=True, tag="probed"):
    """Those addresses at which the asker was reached."""

    addresses: Addresses


class Reserve(Message, frozen=True, tag="reserve"):
    """Asks to be reached through this relay for as long as the link lives.

    Answered by `Reserved` or `Refused`.
    """


class Reserved(Message, frozen=True, tag="reserved"):
    """Others may ask for you here, at these addresses of ours."""

    addresses: Addresses


class Connect(Message, frozen=True, tag="connect"):
    """Asks for a circuit to another member. After `Connected` the stream belongs to the two."""

    peer: PeerId


class Connected(Message, frozen=True, tag="connected"):
    """What follows on this stream comes from the member that was asked for, seen at `seen`."""

    seen: Addresses = ()


class Visit(Message, frozen=True, tag="visit"):
    """What follows on this stream comes from this member, seen at `seen`, which asked for you."""

    peer: PeerId
    seen: Addresses = ()


class Knock(Message, frozen=True, tag="knock"):
    """Let me in, from where the relay sees me; or dial me there, if I am `reachable`."""

    reachable: bool


class Knocked(Message, frozen=True, tag="knocked"):
    """The door is open: dial now, unless you were to be dialled."""


class Refused(Message, frozen=True, tag="refused"):
    """A relay does not do what it was asked."""

    why: Refusal
    message: Text = ""


RelayMessage = (
    Probe | Probed | Reserve | Reserved | Connect | Connected | Visit | Knock | Knocked | Refused
)
