"""Names of texts: equal for equal beginnings of one client, and for nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.client.transcript import Transcript, transcript_key
from swarm.wire.messages import MAX_PREFIXES

KEY = transcript_key(b"s" * 32, "model", "torch.float32")


def written(ids: list[int], key: bytes = KEY, unit_len: int = 4) -> Transcript:
    transcript = Transcript(key, unit_len)
    transcript.write(0, ids)
    return transcript


def test_a_name_for_each_whole_unit_within_the_limit() -> None:
    transcript = written(list(range(11)))
    assert [prefix.length for prefix in transcript.prefixes(11)] == [4, 8]
    assert [prefix.length for prefix in transcript.prefixes(7)] == [4]
    assert transcript.prefixes(3) == ()
    assert len({prefix.digest for prefix in transcript.prefixes(11)}) == 2


def test_names_depend_on_everything_before_and_on_the_key() -> None:
    first, second = written([1, 2, 3, 4, 5, 6, 7, 8]).prefixes(8)
    assert written([1, 2, 3, 4, 5, 6, 7, 9]).prefixes(8)[0] == first
    assert written([0, 2, 3, 4, 5, 6, 7, 8]).prefixes(8)[1] != second
    others = (
        transcript_key(b"t" * 32, "model", "torch.float32"),
        transcript_key(b"s" * 32, "other", "torch.float32"),
        transcript_key(b"s" * 32, "model", "torch.bfloat16"),
    )
    for key in others:
        assert not {first, second} & set(written([1, 2, 3, 4, 5, 6, 7, 8], key).prefixes(8))


_writes = st.lists(
    st.tuples(st.integers(0, 12), st.none() | st.lists(st.integers(0, 3), max_size=9)),
    max_size=8,
)


@given(_writes)
def test_however_it_was_written_and_rolled_back(writes: list[tuple[int, list[int] | None]]) -> None:
    transcript = Transcript(KEY, 4)
    known: list[int] = []
    for position, ids in writes:
        gap = position > len(known)
        known = known[:position]
        if ids is not None and not gap:
            known += ids
        transcript.write(position, ids)
    assert len(transcript) == len(known)
    assert transcript.prefixes(99) == written(known).prefixes(99)


def test_a_long_text_is_named_at_fewer_places_which_it_keeps_as_it_grows() -> None:
    transcript = written([7] * (MAX_PREFIXES + 1), unit_len=1)
    sparse = transcript.prefixes(MAX_PREFIXES + 1)
    assert [prefix.length for prefix in sparse[:2]] == [2, 4]
    assert set(sparse) < set(transcript.prefixes(MAX_PREFIXES))
    transcript.write(len(transcript), [7] * MAX_PREFIXES * 2)
    assert len(transcript.prefixes(9**9)) <= MAX_PREFIXES
    assert {p.length for p in transcript.prefixes(9**9)} & {p.length for p in sparse}
