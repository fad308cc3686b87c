"""Has one peer run given hidden states through some of its blocks, in a session like any other."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

from swarm.errors import Busy, Misbehaved, PeerError, SessionLost, Unreachable
from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.wire.messages import (
    AnyMessage,
    Close,
    Code,
    DType,
    Failed,
    Next,
    Open,
    Opened,
    Output,
    Queued,
    RowRange,
    Step,
    Want,
    Wire,
)
from swarm.wire.tensors import all_finite

_EPOCH = 1

_STEP_BYTES = 1 << 17
"""What a step carries at most. Those of sessions may have to wait behind it: for 2 s on a line of
0.5 Mbit/s."""


@dataclass(frozen=True)
class Question:
    """Blocks `[start, end)` of a model, and how hidden states of `hidden_size` travel.

    The peer gets the positions in steps of at most `chunk_len`, and of few bytes, the next when the
    one before has come back, so that others are served in between. Each may take `patience`
    seconds.
    """

    model: str
    start: int
    end: int
    dtype: DType
    hidden_size: int
    chunk_len: int = 64
    patience: float = 15.0

    @property
    def position_len(self) -> int:
        """Bytes per position."""
        return self.dtype.position_len(self.hidden_size)

    @property
    def step_len(self) -> int:
        """Positions per step."""
        return max(1, min(self.chunk_len, _STEP_BYTES // self.position_len))


class Examination:
    """One question to the peer on `link`. Used once.

    Whoever owns the link passes on what comes for `names`, and tells when the link is lost.
    """

    def __init__(self, link: Link, question: Question) -> None:
        self._link = link
        self._question = question
        self._session = secrets.token_hex(16)
        self._name = secrets.token_hex(16)
        self._outputs = bytearray()
        self._opened = False
        self._error: PeerError | None = None
        self._news = asyncio.Event()

    @property
    def names(self) -> tuple[str, str]:
        """The session's names at the peer and here."""
        return self._session, self._name

    async def run(self, inputs: memoryview) -> memoryview:
        """The peer's results for `inputs`, as many bytes.

        Raises `PeerError` if none come, `Busy` if the peer has no room just now.
        """
        question, size = self._question, self._question.position_len
        num_positions = len(inputs) // size
        try:
            await self._open(num_positions)
            chunk_len = question.step_len
            for seq, position in enumerate(range(0, num_positions, chunk_len)):
                end = min(position + chunk_len, num_positions)
                rows = (RowRange(0, position, end - position),)
                step = Step(self._session, _EPOCH, seq, 0, rows, Want.ALL)
                self._link.post(step, inputs[position * size : end * size])
                await self._until(end * size)
            return memoryview(self._outputs)
        finally:
            if not self._link.closed:
                self._link.post(Close(self._session))

    async def _open(self, num_positions: int) -> None:
        question = self._question
        request = Open(
            session=self._session,
            epoch=_EPOCH,
            model=question.model,
            start=question.start,
            end=question.end,
            rows=1,
            positions=num_positions,
            # Nobody who needs an answer waits for it, or loses its place to it.
            patience=0.0,
            dtype=question.dtype,
        )
        self._link.post(request)
        await self._until(0)
        next_ = Next(None, self._name, (), (0,), (0,))
        self._link.post(Wire(self._session, _EPOCH, next_))

    async def _until(self, num_bytes: int) -> None:
        """Waits until the session is open and so many bytes have come out of it."""
        try:
            async with asyncio.timeout(self._question.patience):
                while not self._opened or len(self._outputs) < num_bytes:
                    if self._error is not None:
                        raise self._error
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise Unreachable(self._link.peer, "did not answer a question in time") from error

    def on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        """One message for one of our names."""
        if link is not self._link:
            return
        match message:
            case Opened():
                self._opened = True
            case Output():
                self._take(message, payload)
            case Failed(code=Code.BUSY | Code.TOO_LONG):
                self._error = Busy(link.peer, message.message)
            case Failed():
                self._error = SessionLost(link.peer, message.message)
            case Queued():
                return
        self._news.set()

    def on_lost(self, link: Link, error: PeerError) -> None:
        """A link has ended, perhaps ours."""
        if link is self._link:
            self._error = error
            self._news.set()

    def _take(self, output: Output, payload: Buffer) -> None:
        size = self._question.position_len
        position = len(self._outputs) // size
        count = len(payload) // size
        expected = (RowRange(0, position, count),)
        if output.rows != expected or len(payload) != count * size:
            self._error = Misbehaved(self._link.peer, f"answered with {output.rows}")
        elif not all_finite(payload, self._question.dtype, size):
            self._error = Misbehaved(self._link.peer, "answered with what is not finite")
        else:
            self._outputs += payload
