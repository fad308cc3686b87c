"""What happens to a group while it is asked: plain values, which hypothesis draws and shrinks.

The `repr` of a `Schedule` is what a failure prints; pasted into `seeds.py`, it stays as a test.
"""

from __future__ import annotations

from dataclasses import dataclass

NUM_BLOCKS = 4
Blocks = tuple[int, int]


# Who serves


@dataclass(frozen=True)
class Host:
    """A peer: its blocks, what it may keep, and the (simulated) seconds that a batch takes it.

    `room` counts how often the largest session fits into its KV memory (0: always).
    `history` bounds its histories' bytes (None: hardly).
    """

    blocks: Blocks
    seconds: float = 0.001
    room: float = 0
    history: int | None = None


# What is asked


@dataclass(frozen=True)
class Say:
    """`count` greedy tokens of every row, or of one row only."""

    count: int
    row: int | None = None


@dataclass(frozen=True)
class Guess:
    """One step with `right` right guesses and `wrong` wrong ones, which are then rolled back."""

    right: int
    wrong: int


@dataclass(frozen=True)
class Back:
    """Rolls rows back by `count` tokens (one row, or all), to go on with another token."""

    count: int
    row: int | None = None


@dataclass(frozen=True)
class Shuffle:
    """The next step finds row `i` to be what row `order[i]` was (modulo the number of rows)."""

    order: tuple[int, ...]


@dataclass(frozen=True)
class Hasten:
    """The next step is given up after `seconds`, if it has not come by then, and asked again."""

    seconds: float


@dataclass(frozen=True)
class Pause:
    """Nothing is asked for `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Again:
    """The session ends, and another one goes on with the same text."""


@dataclass(frozen=True)
class Write:
    """`count` greedy tokens, written as a reply is: with `window` guesses along with each token.

    Every `errs`-th guess is wrong. Only where there is one row.
    """

    count: int
    window: int
    errs: int


Move = Say | Guess | Back | Shuffle | Hasten | Pause | Again | Write


@dataclass(frozen=True)
class Talk:
    """What one client asks: a prompt of `length` tokens for each row, and how it goes on."""

    length: int
    moves: tuple[Move, ...] = (Say(6),)
    num_rows: int = 1
    seed: int = 0
    after: float = 0.0


# What goes wrong, and when


@dataclass(frozen=True)
class AtToken:
    """When `number` steps of a client have been answered."""

    client: int
    number: int


@dataclass(frozen=True)
class After:
    """`seconds` after the event before; 0 is at once."""

    seconds: float


@dataclass(frozen=True)
class AtFrame:
    """When, after the event before, message `number` (from 0) of a kind leaves; it may be lost."""

    kind: str
    number: int
    lost: bool = False


When = AtToken | After | AtFrame


@dataclass(frozen=True)
class On:
    """The peer of one hop of a client's route just then (modulo the number of hops)."""

    client: int
    hop: int


@dataclass(frozen=True)
class Kill:
    """These peers vanish at once."""

    targets: tuple[On, ...]


@dataclass(frozen=True)
class Freeze:
    """Nothing reaches or leaves a peer, and nobody is told; it may thaw."""

    target: On
    thaws_after: float | None = None


@dataclass(frozen=True)
class Disconnect:
    """A hop's streams to the hop after it (or to the client, after the last) break."""

    target: On


@dataclass(frozen=True)
class Leave:
    """A peer ends as it does on SIGTERM."""

    target: On


@dataclass(frozen=True)
class Rest:
    """A peer pauses, and is back after so many seconds."""

    target: On
    seconds: float


@dataclass(frozen=True)
class Join:
    """Somebody comes."""

    host: Host


@dataclass(frozen=True)
class Weather:
    """From now on frames take this long, between all members or those of one hop."""

    delay: float
    jitter: float = 0.0
    rate: float = 0.0
    target: On | None = None


@dataclass(frozen=True)
class Double:
    """The next message of a kind arrives twice, the second time `behind` more of its kind."""

    kind: str
    behind: int = 0


@dataclass(frozen=True)
class Abandon:
    """A client goes in the middle of its reply: by closing its session, or by dying."""

    client: int
    politely: bool = True


@dataclass(frozen=True)
class Nothing:
    """For a time that only counts, or a frame that is only lost."""


What = (
    Kill | Freeze | Disconnect | Leave | Rest | Join | Weather | Double | Abandon | Nothing
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """Happens once the event before it has happened."""

    when: When
    what: What = Nothing()


@dataclass(frozen=True)
class Schedule:
    """A whole run.

    Where an event leaves blocks that nobody serves, somebody comes to serve them after `rescue`
    seconds; if `rescue` is None, only once a client has said that it found no route. `shared`
    talks are all one client's.
    """

    hosts: tuple[Host, ...]
    talks: tuple[Talk, ...]
    events: tuple[Event, ...] = ()
    rescue: float | None = 0.5
    chunk_len: int = 8
    shared: bool = False
