"""The second seam: who serves what, and what else members tell all others.

A peer announces itself every few seconds with a lifetime; whoever asks finds the announcements that
are still alive. Next to them are shelves for records of other kinds. `swarm.directory.dht` keeps
all of it in the group's DHT, `swarm.directory.memory` in one process.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Protocol

import msgspec

from swarm.errors import RecordError

from ..transport.reach import Reach
from ..wire.fields import Addresses, Count, Counter, Moment, PeerId, Seconds, Text

LIFETIME = 20.0
"""Seconds after which a peer that has crashed is gone from the directory."""

REFRESH = 5.0
"""Seconds between two announcements of a peer: three may be lost before it disappears."""


MAX_DIGESTS = 4096
"""Bytes of the digests in an announcement; who has more blocks than that announces none."""

MAX_BLOCKS = 65_536
"""More than any model has; whoever looks at announcements counts up to theirs."""


class State(StrEnum):
    """Where a peer is in its life."""

    LOADING = "loading"
    SERVING = "serving"
    LEAVING = "leaving"
    PAUSED = "paused"


class Announcement(msgspec.Struct, frozen=True, array_like=True):
    """What a peer says of itself.

    It serves blocks `[start, end)` of the model with fingerprint `model`, which has
    `num_blocks`. A decode step takes it `decode_seconds` after a wait of `queue_seconds`, each
    position of a long prefill `prefill_seconds`: as it is now, with what others have it do.
    `free_positions` of `total_positions` in its KV memory are free. `capacity` is how many
    blocks of this model it could hold; 0 means that its span is fixed. With `reach` it says
    whether others can dial it, or come to it through a relay. It has sent with `upload_rate` bytes
    per second; 0 means that it has not sent enough yet to know. `quantize` is the `Form` of its
    weights. `digests` are those of its blocks, as they are stored, behind one another
    (`swarm.auditing.digests`).

    For people who look: `num_sessions` run here, `num_positions` were computed since it began to
    serve. Of the device's `memory_bytes` this peer takes `used_bytes`. It draws `watts` now, and
    has spent `joules` on each position lately; `energy` says how that is known (a `Source` of
    `swarm.energy.meter`, as "rapl" or "estimate"; empty where it is not). A paused peer holds no
    blocks, and means to be back at `resumes` (Unix seconds; 0: it does not know).
    """

    peer: PeerId
    name: Text
    model: Text
    model_name: Text
    num_blocks: Annotated[int, msgspec.Meta(ge=1, le=MAX_BLOCKS)]
    start: Count
    end: Count
    state: State
    decode_seconds: Seconds = 0.0
    prefill_seconds: Seconds = 0.0
    free_positions: Count = 0
    total_positions: Count = 0
    capacity: Count = 0
    dtype: Text = ""
    device: Text = ""
    addresses: Addresses = ()
    version: Text = ""
    time: Moment = 0.0
    reach: Reach = Reach.UNKNOWN
    queue_seconds: Seconds = 0.0
    upload_rate: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0.0
    quantize: Text = "none"
    digests: Annotated[bytes, msgspec.Meta(max_length=MAX_DIGESTS)] = b""
    num_sessions: Count = 0
    num_positions: Counter = 0
    used_bytes: Counter = 0
    memory_bytes: Counter = 0
    watts: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    joules: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0.0
    energy: Text = ""
    resumes: Moment = 0.0

    @property
    def serving(self) -> bool:
        """Whether sessions may be opened on this peer."""
        return self.state is State.SERVING and self.start < self.end


class Shelf(StrEnum):
    """What members publish besides announcements: one record each, replaced by the next."""

    REVOCATIONS = "revocations"
    """An authority's signed list of those whom it has thrown out."""
    AUTHORITIES = "authorities"
    """Where an authority is reached: an encoded `swarm.wire.enrolment.Station`."""
    REPORTS = "reports"
    """Whom a member has caught at wrong work."""


class Directory(Protocol):
    """One member's view of what the group's members publish."""

    async def announce(self, announcement: Announcement, lifetime: float = LIFETIME) -> None:
        """Publishes our announcement; replaces the one before."""

    async def withdraw(self) -> None:
        """Takes our announcement back at once; nothing happens if there is none."""

    async def find(self, model: str | None = None) -> tuple[Announcement, ...]:
        """Living announcements, of one model's fingerprint or of all, ordered by peer id."""

    async def publish(self, shelf: Shelf, record: bytes, lifetime: float = LIFETIME) -> None:
        """Puts our record on a shelf for `lifetime` seconds; replaces the one before.

        Others see it only if our certificate allows it: revocations and authorities are for those
        that are one.
        """

    async def read(self, shelf: Shelf) -> dict[str, bytes]:
        """The records on a shelf, by the member who has signed them."""

    async def aclose(self) -> None:
        """Leaves the directory; may be called again."""


_decoder = msgspec.msgpack.Decoder(Announcement)


def encode_announcement(announcement: Announcement) -> bytes:
    """The announcement as a record."""
    return msgspec.msgpack.encode(announcement)


def decode_announcement(record: bytes) -> Announcement:
    """Reads a record; raises `RecordError` on one that no correct peer writes."""
    try:
        announcement = _decoder.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"announcement not understood: {error}") from error
    if not announcement.start <= announcement.end <= announcement.num_blocks:
        raise RecordError(
            f"announcement of {announcement.peer}: blocks {announcement.start}:{announcement.end}"
            f" of {announcement.num_blocks}"
        )
    return announcement
