"""The messages that members exchange: one frozen struct each, checked as they are decoded.

Who says what:

    client -> hop   Open, Hold, Wire, Copy, Keep, Close, Meet; Step (first hop)
    hop -> client   Queued, Opened, Held, Leaving, Failed; Output (last hop)
    hop -> hop      Step

What the two ends of a link say to each other of the link itself is in `linking`, and what members
and relays say in `relaying`; `decode` understands all of them.

A *row* is one sequence of a session; greedy generation has one row, five beams have five. A
session's state at a hop is, for each row, the positions it has run. Three counters make every
step's place in the session unmistakable:

- `epoch` rises whenever the client rewires the route; steps of an older epoch are dropped.
- `seq` counts the steps between two neighbours within an epoch, from 0, without gaps: a step
  seen twice is dropped, a missing one is noticed when the next arrives.
- `generation` rises with every roll-back or reordering of rows, so that after a failure the client
  can tell which hops have seen the latest one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from swarm.errors import RemoteProtocolError

from .fields import Addresses, Count, Counter, Message, PeerId, Seconds, SessionId, Text
from .linking import LinkMessage
from .relaying import RelayMessage

MAX_ROWS = 256
"""Rows of one session."""

Lengths = Annotated[tuple[Count, ...], msgspec.Meta(max_length=MAX_ROWS)]
MAX_PREFIXES = 1024
"""Prefixes of one text that a message names."""

DIGEST_LEN = 16
"""Bytes of a prefix's name."""

MARK_LEN = 8
"""Bytes of a mark (`swarm.session.trace`)."""

KEY_LEN = 16
"""Bytes of the key under which a hop commits itself to a client."""

TAG_LEN = 8
"""Bytes by which a client knows that a hop itself has said something."""

MAX_TRACED_ROWS = 8
"""Sessions of more rows are not traced: what all hops say of all rows would fill a header."""

BLOCK_LEN = 32
"""Numbers that share a scale in `DType.INT8`."""

SCALE_LEN = 2
"""Bytes of such a scale."""


class DType(StrEnum):
    """Element types of hidden states on the wire; `swarm.wire.tensors` makes bytes of them."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"

    @property
    def itemsize(self) -> int:
        """Bytes per element, without the scales of `INT8`."""
        return {DType.FLOAT32: 4, DType.INT8: 1}.get(self, 2)

    def position_len(self, hidden_size: int) -> int:
        """Bytes per position."""
        scales = -(-hidden_size // BLOCK_LEN) * SCALE_LEN if self is DType.INT8 else 0
        return hidden_size * self.itemsize + scales


class Want(StrEnum):
    """Which positions of a step the client needs back from the last hop."""

    NOTHING = "nothing"
    LAST = "last"
    ALL = "all"


class Code(StrEnum):
    """Why a hop could not do what it was asked; `client.session` maps these to errors."""

    BUSY = "busy"
    UNKNOWN_SESSION = "unknown_session"
    WRONG_MODEL = "wrong_model"
    BAD_REQUEST = "bad_request"
    TOO_LONG = "too_long"
    BAD_STEP = "bad_step"
    STEP_MISSING = "step_missing"
    NEXT_UNREACHABLE = "next_unreachable"
    LEAVING = "leaving"
    INTERNAL = "internal"


class Next(msgspec.Struct, frozen=True, array_like=True):
    """Where a hop sends what it computes: a peer, or the client on the link of `Open`.

    `session` is the receiver's name for the session: every hop has a name of its own, so that one
    peer may serve two hops of a route, or take over from itself.
    `has` counts for each row the positions that the receiver holds already; what lies beyond
    them in the hop's history is sent at once. Of that, positions below `settled` are known to
    the client and may be sent in large steps that nobody waits for.
    """

    peer: PeerId | None
    session: SessionId
    addresses: Addresses = ()
    has: Lengths = ()
    settled: Lengths = ()


class Prefix(msgspec.Struct, frozen=True, array_like=True):
    """The first `length` positions of a text, under a name that only its client can make.

    The name is a keyed hash over all those tokens (`swarm.client.transcript`): to everybody else
    it is random bytes. A hop looks it up among what the same client has had it keep, nowhere else.
    """

    length: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    digest: Annotated[bytes, msgspec.Meta(min_length=DIGEST_LEN, max_length=DIGEST_LEN)]


Prefixes = Annotated[tuple[Prefix, ...], msgspec.Meta(max_length=MAX_PREFIXES)]


class Open(Message, frozen=True, tag="open"):
    """Opens a session on blocks `[start, end)` of a model.

    `positions` is how many per row the hop should have room for before it answers; it may wait up
    to `patience` seconds for that room. A session of one row may begin with the longest of
    `prefixes` that the hop still has from an earlier one. With a `key` (`KEY_LEN` bytes, else
    none), which no other hop is told, the hop commits itself with every step to what it has
    received and sent on. Answered by `Opened` or `Failed`.
    """

    session: SessionId
    epoch: Counter
    model: Text
    start: Count
    end: Count
    rows: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)]
    positions: Count
    patience: Seconds
    dtype: DType
    generation: Counter = 0
    prefixes: Prefixes = ()
    key: Annotated[bytes, msgspec.Meta(max_length=KEY_LEN)] = b""


class Queued(Message, frozen=True, tag="queued"):
    """The hop has no room now; the session waits its turn."""

    session: SessionId
    epoch: Counter


class Opened(Message, frozen=True, tag="opened"):
    """The hop has room and waits to be wired.

    It holds `has` positions, one of the lengths that it was asked for, and can replay them or not.
    """

    session: SessionId
    epoch: Counter
    has: Count = 0
    replayable: bool = True


class Hold(Message, frozen=True, tag="hold"):
    """Starts a new epoch on a hop that survives a change of the route.

    The hop stops forwarding. If its `generation` is older than the client's, it keeps only the
    first `keep` positions of each row, which every later generation shares.
    """

    session: SessionId
    epoch: Counter
    generation: Counter
    keep: Lengths


class Held(Message, frozen=True, tag="held"):
    """What the hop holds: `has` positions per row, and whether its history can replay them all."""

    session: SessionId
    epoch: Counter
    has: Lengths
    replayable: bool


class Wire(Message, frozen=True, tag="wire"):
    """Tells a hop where its outputs go in this epoch, and lets it forward."""

    session: SessionId
    epoch: Counter
    next: Next


class Copy(Message, frozen=True, tag="copy"):
    """Asks a hop to send its history to `next` too; where its outputs go stays as it is.

    That is how a hop is filled that gets ready to take over from one that leaves. Where `next` is
    the client itself, it wants to see what the hop has computed. With `until`, positions of each
    row from there on are left out.
    """

    session: SessionId
    epoch: Counter
    next: Next
    until: Lengths = ()


class Keep(Message, frozen=True, tag="keep"):
    """Of what the session has computed, the longest of `prefixes` may serve the client's others.

    The hop keeps it, also when the session has ended, as long as nobody needs the room; unless it
    has come to a later `generation` meanwhile, of which the client did not know what it holds.
    """

    session: SessionId
    generation: Counter
    prefixes: Prefixes


class Leaving(Message, frozen=True, tag="leaving"):
    """The hop serves this session for at most `seconds` more: it is to be handed over."""

    session: SessionId
    epoch: Counter
    seconds: Seconds


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A peer and where it can be reached."""

    peer: PeerId
    addresses: Addresses = ()


class Meet(Message, frozen=True, tag="meet"):
    """Peers to which the receiver may soon have to send: it opens links to them now."""

    places: Annotated[tuple[Place, ...], msgspec.Meta(max_length=8)]


class Close(Message, frozen=True, tag="close"):
    """Ends a session; the hop frees its memory."""

    session: SessionId


class RowRange(msgspec.Struct, frozen=True, array_like=True):
    """`count` positions of a row, from `position` on; one below the row's length rolls back."""

    row: Count
    position: Count
    count: Count


Mark = Annotated[bytes, msgspec.Meta(min_length=MARK_LEN, max_length=MARK_LEN)]


class Commitment(msgspec.Struct, frozen=True, array_like=True):
    """The marks of all that a hop has received and computed of a row, up to position `end`."""

    row: Count
    end: Count
    received: Mark
    sent: Mark


Commitments = Annotated[tuple[Commitment, ...], msgspec.Meta(max_length=MAX_TRACED_ROWS)]


class HopTime(msgspec.Struct, frozen=True, array_like=True):
    """How long one hop took over a step, in microseconds, and in how large a batch.

    `tag` shows the client that the hop itself has made these `commitments` in this step. `trip` is
    half the round trip of heartbeats to whom it sends the step on; 0 while that is not known.
    """

    start: Count
    end: Count
    queue: Counter
    compute: Counter
    batch: Count
    commitments: Commitments = ()
    tag: Annotated[bytes, msgspec.Meta(max_length=TAG_LEN)] = b""
    trip: Counter = 0


RowRanges = Annotated[tuple[RowRange, ...], msgspec.Meta(max_length=MAX_ROWS)]
HopTimes = Annotated[tuple[HopTime, ...], msgspec.Meta(max_length=256)]


class Step(Message, frozen=True, tag="step"):
    """Hidden states for the next hop; payload `[sum of counts, hidden_size]`.

    With `reorder`, row `i` first becomes what row `reorder[i]` was. A `refill` restores what the
    receiver has lost: it never moves back what the receiver has sent on already.
    """

    session: SessionId
    epoch: Counter
    seq: Counter
    generation: Counter
    rows: RowRanges
    want: Want
    reorder: Lengths | None = None
    refill: bool = False
    times: HopTimes = ()


class Output(Message, frozen=True, tag="output"):
    """A step's end, from the last hop to the client.

    The payload holds the positions that `want` names: all `[sum of counts, hidden_size]`, the last
    of each row `[rows with count > 0, hidden_size]`, or nothing.
    """

    session: SessionId
    epoch: Counter
    seq: Counter
    generation: Counter
    rows: RowRanges
    want: Want
    times: HopTimes = ()


class Failed(Message, frozen=True, tag="failed"):
    """A hop could not go on with a session. `peer` names another peer at fault, if one is."""

    session: SessionId
    epoch: Counter
    code: Code
    message: Text
    peer: PeerId | None = None


SessionMessage = (
    Open
    | Queued
    | Opened
    | Hold
    | Held
    | Wire
    | Copy
    | Keep
    | Leaving
    | Meet
    | Close
    | Step
    | Output
    | Failed
)
AnyMessage = LinkMessage | SessionMessage | RelayMessage

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    """The message as a frame's header."""
    return _encoder.encode(message)


def decode(header: bytes) -> AnyMessage:
    """The message in a frame's header; an unknown or invalid one is a `RemoteProtocolError`."""
    try:
        return _decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"message not understood: {error}") from error
