"""A real peer, to which a member says valid messages in nonsensical order, with nonsensical values.

Somebody honest asks the same peer meanwhile, and must get the tokens that the model gives.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from dataclasses import dataclass
from typing import Any

from clockwork import COMPUTING, ClockworkLoop
from hypothesis import strategies as st
from msgspec import inspect
from msgspec.structs import replace

from swarm.background import background
from swarm.errors import PeerError
from swarm.transport import Buffer, Stream
from swarm.transport.link import Link, accept, connect
from swarm.transport.neighbours import PROTOCOL
from swarm.wire.messages import (
    MAX_ROWS,
    AnyMessage,
    Close,
    Copy,
    DType,
    Failed,
    Hold,
    Keep,
    Meet,
    Next,
    Open,
    Place,
    Prefix,
    RowRange,
    Step,
    Want,
    Wire,
)

from .fuzzer import Fuzzer
from .host import HIDDEN, NAME, NUM_BLOCKS, Host, model, staged
from .hostile import valid
from .log import Errors

_ME = "hostile"
_SESSIONS = ("a" * 16, "b" * 16, "c" * 16)
_HONEST = "the honest client's"


@dataclass(frozen=True)
class Say:
    """One message, with its payload; after it so many seconds pass."""

    message: Any
    payload: bytes
    pause: float


@dataclass(frozen=True)
class HangUp:
    """The connection ends, and the next message goes over a new one."""

    pause: float


def _mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(usual, usual, usual, odd)


_HUGE = st.sampled_from([2**31 - 1, 2**30, 100_000, 1_000])
_COUNTS = _mostly(st.integers(0, 12), _HUGE)
_COUNTERS = _mostly(st.integers(0, 3), st.sampled_from([2**62 - 1, 2**32]))
_NAMES = st.sampled_from(_SESSIONS)
_OWNED = _mostly(_NAMES, st.just(_HONEST))
_LENGTHS = st.lists(_COUNTS, max_size=3).map(tuple)
_DTYPES = st.sampled_from(list(DType))
_PEERS = st.sampled_from([None, _ME, NAME, "nobody", "\0", "1" * 128])
_PREFIXES = st.lists(
    st.builds(Prefix, _COUNTS.map(lambda n: n or 1), st.sampled_from([b"p" * 16, b"q" * 16])),
    max_size=3,
).map(tuple)
_NEXT = st.builds(
    Next, _PEERS, _NAMES, st.just(("/memory/x",)), _mostly(st.just((0,)), _LENGTHS), _LENGTHS
)
_ROWS = st.lists(st.builds(RowRange, _mostly(st.just(0), _COUNTS), _COUNTS, _COUNTS), max_size=3)
_WANT = st.sampled_from(list(Want))


def _open(session: str, epoch: int, **fields: Any) -> Open:
    start, end = fields.pop("span")
    return Open(session, epoch, fields.pop("model"), start, end, **fields)


_OPENS = st.builds(
    _open,
    _NAMES,
    _COUNTERS,
    model=_mostly(st.just(""), st.sampled_from(["other"])),
    span=_mostly(st.just((0, NUM_BLOCKS)), st.tuples(_COUNTS, _COUNTS)),
    rows=_mostly(st.just(1), st.sampled_from([2, 3, MAX_ROWS])),
    positions=_COUNTS,
    patience=st.sampled_from([0.0, 0.1, 86_400.0]),
    dtype=_DTYPES,
    generation=_COUNTERS,
    prefixes=_PREFIXES,
)
_STEPS = st.builds(
    Step,
    _NAMES,
    _COUNTERS,
    _COUNTERS,
    _COUNTERS,
    _mostly(st.integers(1, 9).map(lambda n: [RowRange(0, 0, n)]), _ROWS).map(tuple),
    _WANT,
    _mostly(st.none(), _LENGTHS),
    st.booleans(),
)
_COMMANDS = st.one_of(
    st.builds(Wire, _OWNED, _COUNTERS, _NEXT),
    st.builds(Wire, _OWNED, _COUNTERS, _NEXT),
    st.builds(Hold, _OWNED, _COUNTERS, _COUNTERS, _mostly(st.just((0,)), _LENGTHS)),
    st.builds(Copy, _OWNED, _COUNTERS, _NEXT),
    st.builds(Keep, _OWNED, _COUNTERS, _PREFIXES),
    st.builds(Close, _OWNED),
    st.builds(Meet, st.lists(st.builds(Place, _PEERS.map(str)), max_size=4).map(tuple)),
    valid(inspect.type_info(Failed)),
)
_ANY = valid(inspect.type_info(AnyMessage))

_NUMBERS = st.sampled_from(
    [
        struct.pack("<f", 0.25),
        struct.pack("<f", 3e38),
        struct.pack("<f", float("nan")),
        struct.pack("<f", float("-inf")),
        b"\0\0\0\0",
        b"\x7f\x7f\x7f\x7f",
        b"\xff\xff\xff\xff",
    ]
)


@st.composite
def _said(draw: st.DrawFn) -> Say:
    """A message, and a payload that mostly has as many bytes as the message says."""
    message = draw(st.one_of(_OPENS, _STEPS, _STEPS, _COMMANDS, _COMMANDS, _ANY))
    payload = b""
    if isinstance(message, Step):
        number = sum(span.count for span in message.rows)
        length = draw(_DTYPES).position_len(HIDDEN) * (number if number < 200 else 1)
        length = draw(_mostly(st.just(length), st.integers(0, 300)))
        payload = (draw(_NUMBERS) * (length // 4 + 1))[:length]
    elif draw(st.integers(0, 9)) == 0:
        payload = draw(st.binary(max_size=300))
    return Say(message, payload, draw(_PAUSES))


_PAUSES = st.sampled_from([0.0, 0.0, 0.001, 0.02, 1.0])
_MOVES = st.one_of(_said(), _said(), _said(), _said(), st.builds(HangUp, _PAUSES))


@st.composite
def _session(draw: st.DrawFn, name: str) -> list[Say | HangUp]:
    """One session as a correct client has it: opened, wired, some steps, perhaps held, closed."""
    rows, dtype, epoch = draw(st.integers(1, 3)), draw(_DTYPES), draw(st.integers(0, 2))
    moves: list[Say | HangUp] = []

    def say(message: Any, payload: bytes = b"", pause: float = 0.0) -> None:
        moves.append(Say(message, payload, pause))

    def steps(position: int) -> int:
        for seq in range(draw(st.integers(0, 4))):
            count = draw(st.integers(1, 9))
            spans = tuple(RowRange(row, position, count) for row in range(rows))
            length = rows * count * dtype.position_len(HIDDEN)
            payload = (struct.pack("<f", 0.25) * length)[:length]
            say(Step(name, epoch, seq, epoch, spans, draw(_WANT)), payload, draw(_PAUSES))
            position += count
        return position

    positions = draw(st.integers(0, 40))
    say(Open(name, epoch, "", 0, NUM_BLOCKS, rows, positions, 5.0, dtype, epoch), pause=0.02)
    say(Wire(name, epoch, Next(draw(_PEERS), name, ("/memory/x",), (0,) * rows)), pause=0.02)
    reached = steps(0)
    if draw(st.booleans()):
        epoch += 1
        keep = draw(st.integers(0, reached))
        say(Hold(name, epoch, epoch, (keep,) * rows), pause=0.1)
        say(Wire(name, epoch, Next(None, name, (), (keep,) * rows)), pause=0.02)
        steps(keep)
    if rows == 1 and draw(st.booleans()):
        say(Keep(name, epoch, draw(_PREFIXES)))
    if draw(st.booleans()):
        say(Close(name))
    return moves


@st.composite
def _disturbed(draw: st.DrawFn) -> list[Say | HangUp]:
    """Some correct sessions, one after the other or mixed up, in which little is changed."""
    names = draw(st.lists(_NAMES, min_size=1, max_size=2, unique=True))
    moves = [move for name in names for move in draw(_session(name))]
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, 15)) % len(moves)
        match draw(st.sampled_from(["drop", "repeat", "swap", "insert", "insert", "change"])):
            case "drop" if len(moves) > 1:
                del moves[at]
            case "repeat":
                moves[at:at] = [moves[at]]
            case "swap":
                moves[at : at + 2] = reversed(moves[at : at + 2])
            case "insert":
                moves.insert(at, draw(_MOVES))
            case "change":
                moves[at] = draw(_changed(moves[at]))
    return moves


@st.composite
def _changed(draw: st.DrawFn, move: Say | HangUp) -> Say | HangUp:
    """A message in which one field has become another value that it may have."""
    if isinstance(move, HangUp):
        return move
    kind = inspect.type_info(type(move.message))
    assert isinstance(kind, inspect.StructType)
    if not kind.fields:
        return move
    field = draw(st.sampled_from(kind.fields))
    value = draw(valid(field.type))
    payload = move.payload
    if payload and draw(st.booleans()):
        at = draw(st.integers(0, len(payload)))
        payload = payload[:at] + draw(_NUMBERS) + payload[at + 4 :]
    return Say(replace(move.message, **{field.encode_name: value}), payload, move.pause)


_PLAYS = st.one_of(_disturbed(), _disturbed(), _disturbed(), st.lists(_MOVES, max_size=14))


class _Hostile:
    """A member that says what it is told to, over a new link whenever one has ended."""

    def __init__(self, host: Host, tasks: asyncio.TaskGroup) -> None:
        self._host, self._tasks = host, tasks
        self._member = host.member(_ME)
        self._link: Link | None = None

    async def play(self, moves: list[Say | HangUp]) -> None:
        """Says one after the other, and goes."""
        await self._member.transport.serve(PROTOCOL, self._accept)
        for move in moves:
            if isinstance(move, HangUp):
                await self._hang_up()
            else:
                link = await self._linked()
                link.post(self._addressed(move.message), move.payload)
            await asyncio.sleep(move.pause)
        await self._host.network.kill(_ME)

    async def _linked(self) -> Link:
        if self._link is None or self._link.closed:
            stream = await self._member.transport.open(NAME, PROTOCOL)
            self._link = await connect(stream, self._member.membership)
            self._tasks.create_task(_listen(self._link))
        return self._link

    async def _accept(self, stream: Stream) -> None:
        await _listen(await accept(stream, self._member.membership))

    async def _hang_up(self) -> None:
        if self._link is not None:
            await self._link.aclose()

    def _addressed(self, message: Any) -> Any:
        """The real model's name, and the session that is another's."""
        if isinstance(message, Open) and not message.model:
            message = replace(message, model=model().checkpoint.fingerprint)
        if getattr(message, "session", None) == _HONEST:
            hosting = self._host.peer.hosting
            assert hosting is not None
            others = [name for name in hosting.handler._sessions if name not in _SESSIONS]
            message = replace(message, session=others[0] if others else _SESSIONS[0])
        return message


async def _listen(link: Link) -> None:
    async def ignore(link: Link, message: AnyMessage, payload: Buffer) -> None:
        pass

    try:
        await link.run(ignore)
    except PeerError:
        pass


async def _play(moves: list[Say | HangUp]) -> None:
    COMPUTING.set(0.01)
    host = Host()
    async with host.serving(), background() as tasks:
        asking = tasks.create_task(host.ask())
        await _Hostile(host, tasks).play(moves)
        assert await asking == model().tokens, "somebody else's tokens have changed"
        await host.settle()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left


def check(moves: list[Say | HangUp]) -> None:
    """Nothing crashes, nothing stays, and somebody else's tokens are right."""
    errors, logger = Errors(), logging.getLogger("swarm")
    logger.addHandler(errors)
    try:
        with staged(), asyncio.Runner(loop_factory=ClockworkLoop) as runner:
            runner.run(_play(moves))
    finally:
        logger.removeHandler(errors)
    assert not errors.found, errors.found


FUZZER = Fuzzer(_PLAYS, check, examples=60)
