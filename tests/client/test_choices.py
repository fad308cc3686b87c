"""Several replies side by side, without a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from swarm.client import ChosenToken, Piece, Reply, SamplingConfig
from swarm.client.choices import Choices
from swarm.client.sampling import MAX_SEED


class Writer:
    """Writes `num` pieces of each reply when `go` is set; one may fail before its second."""

    def __init__(self, num: int = 3, fails: int | None = None) -> None:
        self.num, self.fails = num, fails
        self.go = asyncio.Event()
        self.go.set()
        self.begun: list[int] = []
        self.seeds: list[int | None] = []
        self.closed = 0

    async def __call__(self, reply: Reply, sampling: SamplingConfig) -> AsyncGenerator[Piece, None]:
        (name,) = reply.prompt_ids
        self.begun.append(name)
        self.seeds.append(sampling.seed)
        try:
            for number in range(reply.num_told, self.num):
                await self.go.wait()
                if name == self.fails and number == 1:
                    raise ValueError(f"choice {name}")
                piece = Piece(f"{name}.{number}", (ChosenToken(number, b""),))
                reply.tell(piece)
                yield piece
        finally:
            self.closed += 1


def replies(num: int) -> list[Reply]:
    return [Reply([name]) for name in range(num)]


async def collect(writer: Writer, of: list[Reply], ahead: bool = True, **options) -> list[str]:
    found, ended = [], []
    stream = Choices(writer, of, SamplingConfig(**options), one_ahead=ahead).told()
    async with aclosing(stream):
        async for index, piece in stream:
            assert index not in ended
            if piece is None:
                ended.append(index)
                continue
            assert piece.text.startswith(f"{index}.")
            found.append(piece.text)
    assert sorted(ended) == list(range(len(of)))
    return found


@pytest.mark.parametrize("ahead", [False, True])
async def test_all_pieces_of_all_come_in_each_ones_order(ahead) -> None:
    writer = Writer()
    found = await collect(writer, replies(4), ahead)
    for name in range(4):
        assert [text for text in found if text[0] == str(name)] == [
            f"{name}.{number}" for number in range(3)
        ]
    assert len(found) == 12 and writer.closed == 4


async def test_one_alone_is_as_any() -> None:
    writer = Writer()
    assert await collect(writer, replies(1), seed=7) == ["0.0", "0.1", "0.2"]
    assert writer.seeds == [7] and writer.closed == 1


async def test_the_others_begin_when_the_first_has_brought_something() -> None:
    writer = Writer()
    writer.go.clear()
    running = asyncio.create_task(collect(writer, replies(3)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert writer.begun == [0]
    writer.go.set()
    await running
    assert writer.begun == [0, 1, 2]


async def test_the_others_begin_though_the_first_brings_nothing() -> None:
    writer = Writer(num=0)
    assert await collect(writer, replies(3)) == [] and writer.closed == 3


async def test_an_error_ends_all_and_they_go_on_together() -> None:
    writer, of = Writer(fails=1), replies(3)
    found = []
    with pytest.raises(ValueError, match="choice 1"):
        async for _, piece in Choices(writer, of, SamplingConfig(), one_ahead=False).told():
            found += [piece.text] if piece else []
    assert writer.closed == 3
    writer.fails = None
    found += await collect(writer, of)
    expected = [f"{name}.{number}" for name in range(3) for number in range(3)]
    assert sorted(found) == expected, "none is missing, none comes twice"
    assert "".join(reply.text for reply in of) == "".join(expected)


async def test_who_stops_reading_ends_all_and_can_go_on() -> None:
    writer, of = Writer(num=30), replies(3)
    found = []
    stream = Choices(writer, of, SamplingConfig(), one_ahead=True).told()
    async with aclosing(stream):
        async for _, piece in stream:
            assert piece is not None
            found.append(piece.text)
            if len(found) == 20:
                break
    assert writer.closed == len(writer.begun) == 3
    assert sum(reply.num_told for reply in of) == 20
    found += await collect(writer, of)
    assert sorted(found) == sorted(f"{name}.{number}" for name in range(3) for number in range(30))


async def test_one_that_is_not_read_does_not_run_away() -> None:
    writer, of = Writer(num=1000), replies(2)
    stream = Choices(writer, of, SamplingConfig(), one_ahead=False).told()
    await anext(stream)
    for _ in range(100):
        await asyncio.sleep(0)
    assert all(reply.num_told < 10 for reply in of)
    await stream.aclose()
    assert writer.closed == 2


async def test_each_has_a_seed_of_its_own_and_the_first_the_callers() -> None:
    writer = Writer()
    await collect(writer, replies(3), seed=7)
    assert writer.seeds == [7, 8, 9]
    writer = Writer()
    await collect(writer, replies(2), seed=MAX_SEED)
    assert writer.seeds == [MAX_SEED, 0]
