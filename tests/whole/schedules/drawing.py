"""How schedules are drawn: one strategy for each theme, small values first, for short failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from schedule import (
    NUM_BLOCKS,
    Abandon,
    After,
    Again,
    AtFrame,
    AtToken,
    Back,
    Disconnect,
    Double,
    Event,
    Freeze,
    Guess,
    Hasten,
    Host,
    Join,
    Kill,
    Leave,
    Nothing,
    On,
    Pause,
    Rest,
    Say,
    Schedule,
    Shuffle,
    Talk,
    Weather,
    Write,
)

STEPS = ("Step", "Output")
MENDING = (
    *("Hold", "Held", "Open", "Queued", "Opened", "Wire", "Copy", "Leaving"),
    *("Step", "Output", "Close", "Failed"),
)

_clients = st.integers(0, 3)
_targets = st.builds(On, client=_clients, hop=st.integers(0, 4))
_spans = st.sampled_from([(a, b) for a in range(NUM_BLOCKS) for b in range(a + 1, NUM_BLOCKS + 1)])
_seconds = st.sampled_from([0.001, 0.0, 0.005, 0.03])


# Who serves


def _host(spans: Any, **options: Any) -> st.SearchStrategy[Host]:
    return st.builds(Host, blocks=spans, seconds=_seconds, **options)


@st.composite
def _hosts(draw: Any, *, most_spares: int = 2, **options: Any) -> tuple[Host, ...]:
    """Peers that serve everything: a chain whose spans may reach over their neighbours', and some
    more, which no session needs at first. The order is that of their names."""
    borders = sorted(draw(st.sets(st.integers(1, NUM_BLOCKS - 1), min_size=1)))
    chain = list(zip([0, *borders], [*borders, NUM_BLOCKS], strict=True))
    reach = draw(st.lists(st.integers(0, 1), min_size=len(chain), max_size=len(chain)))
    chain = [(a, min(NUM_BLOCKS, b + more)) for (a, b), more in zip(chain, reach, strict=True)]
    spares = draw(st.lists(_spans.filter(lambda s: s[1] - s[0] < 4), max_size=most_spares))
    spans = draw(st.permutations([*chain, *spares]))
    return tuple(draw(_host(st.just(span), **options)) for span in spans)


# What is asked

_say = st.builds(Say, count=st.integers(1, 6))
_again = st.just(Again())
_any_row = st.none() | st.integers(0, 2)
_moves = {
    "plain": st.one_of(_say, _say, _again),
    "rewinding": st.one_of(
        _say,
        _again,
        st.builds(Guess, right=st.integers(0, 2), wrong=st.integers(1, 3)),
        st.builds(Back, count=st.integers(2, 9)),
    ),
    "rows": st.one_of(
        st.builds(Say, count=st.integers(1, 3), row=_any_row),
        st.builds(Back, count=st.integers(1, 5), row=_any_row),
        st.builds(Shuffle, order=st.tuples(*[st.integers(0, 2)] * 3)),
        st.builds(Guess, right=st.integers(0, 2), wrong=st.integers(0, 2)),
    ),
    "writing": st.one_of(
        _say,
        st.builds(
            Write,
            count=st.integers(2, 12),
            window=st.integers(1, 6),
            errs=st.sampled_from([3, 2, 1, 5, 100]),
        ),
        st.builds(Back, count=st.integers(2, 9)),
    ),
    "hasty": st.one_of(
        _say,
        _again,
        st.builds(Hasten, seconds=st.sampled_from([0.002, 0.01, 0.1, 0.7])),
        st.builds(Pause, seconds=st.sampled_from([0.5, 3.0])),
        st.builds(Back, count=st.integers(1, 5)),
    ),
}


def _talks(
    kinds: Sequence[str] = ("plain",),
    *,
    most: int = 1,
    most_moves: int = 3,
    rows: Any = None,
    least: int = 1,
) -> st.SearchStrategy[tuple[Talk, ...]]:
    moves = st.one_of([_moves[kind] for kind in kinds])
    talk = st.builds(
        Talk,
        length=st.integers(1, 12) | st.integers(1, 40),
        # It begins and ends with something said: for events to find, and for them to show.
        moves=st.lists(moves, min_size=1, max_size=most_moves).map(lambda m: (Say(2), *m, Say(2))),
        num_rows=st.just(1) if rows is None else rows,
        seed=st.integers(0, 9),
        after=st.sampled_from([0.0, 0.01, 0.3]),
    )
    return st.lists(talk, min_size=least, max_size=most).map(tuple)


# What goes wrong


_kill = st.builds(Kill, targets=st.lists(_targets, min_size=1, max_size=2).map(tuple))
_freeze = st.builds(
    Freeze,
    target=_targets,
    thaws_after=st.none() | st.sampled_from([0.01, 0.3, 1.1, 2.5]),
)
_disconnect = st.builds(Disconnect, target=_targets)
_leave = st.builds(Leave, target=_targets)
_rest = st.builds(Rest, target=_targets, seconds=st.sampled_from([0.5, 0.01, 3.0]))
_join = st.builds(Join, host=_host(_spans))
_join_wide = st.just(Join(Host((0, NUM_BLOCKS))))
_abandon = st.builds(Abandon, client=_clients, politely=st.booleans())
_double = st.builds(
    Double,
    kind=st.sampled_from(STEPS),
    behind=st.integers(0, 2),
)
_weather = st.builds(
    Weather,
    delay=st.sampled_from([0.005, 0.0, 0.05, 0.3]),
    jitter=st.sampled_from([0.0, 0.02]),
    rate=st.sampled_from([0.0, 20e3, 200e3]),
    target=st.none() | _targets,
)


_soon = st.builds(AtToken, client=_clients, number=st.integers(1, 5))


def _at_frame(kinds: Sequence[str], most: int) -> st.SearchStrategy[AtFrame]:
    """Only what is pushed may be lost: streams are reliable, and a lost `Close` would stay so."""
    frame = st.builds(
        AtFrame, kind=st.sampled_from(kinds), number=st.integers(0, most), lost=st.booleans()
    )
    return frame.map(lambda at: replace(at, lost=at.lost and at.kind in STEPS))


@st.composite
def _incident(draw: Any, whats: Sequence[Any], *, first: bool) -> list[Event]:
    """Something happens between two steps, with a step on its way, or (once something else has
    happened) while the route is mended."""
    places = ["between", "on its way", "on its way"]
    what = draw(st.one_of(whats))
    match draw(st.sampled_from(places if first else [*places, "mending", "mending", "later"])):
        case "between":
            return [Event(draw(_soon), what)]
        case "on its way":
            return [Event(draw(_soon)), Event(draw(_at_frame(STEPS, 4)), what)]
        case "mending":
            return [Event(draw(_at_frame(MENDING, 2)), what)]
    return [Event(After(draw(st.sampled_from([0.0, 0.0005, 0.004, 0.05, 1.2]))), what)]


@st.composite
def _events(draw: Any, *whats: Any, most: int = 3, least: int = 1) -> tuple[Event, ...]:
    events: list[Event] = []
    for number in range(draw(st.integers(least, most))):
        events += draw(_incident(whats, first=number == 0))
    return tuple(events)


_rescue = st.sampled_from([0.5, 0.0, 0.02, 2.0])
_chunk_len = st.sampled_from([8, 3, 5, 128])


def _schedule(hosts: Any, talks: Any, events: Any, **options: Any) -> st.SearchStrategy[Schedule]:
    settings = {"rescue": _rescue, "chunk_len": _chunk_len, "shared": st.booleans(), **options}
    return st.builds(Schedule, hosts=hosts, talks=talks, events=events, **settings)


# Themes

THEMES = {
    "dying": _schedule(_hosts(), _talks(most=2), _events(_kill, _kill, _join, _join_wide)),
    "mending": _schedule(
        _hosts(),
        _talks(("plain", "rewinding"), most=2),
        _events(_kill, _kill, _freeze, _disconnect, _join_wide, most=5, least=2),
    ),
    "silence": _schedule(
        _hosts(), _talks(("plain", "hasty"), most=2), _events(_freeze, _disconnect)
    ),
    "crossing": _schedule(
        _hosts(),
        _talks(("plain", "rewinding"), most=2),
        _events(st.just(Nothing()), _double, _double, _weather, _kill, most=4),
    ),
    "rewinding": _schedule(
        _hosts(history=st.none() | st.sampled_from([0, 1500, 4000])),
        _talks(("rewinding", "rows"), rows=st.integers(1, 3), most_moves=6),
        _events(_kill, _kill, _disconnect, _join_wide),
    ),
    "guessing": _schedule(
        _hosts(history=st.none() | st.sampled_from([0, 1500, 4000])),
        _talks(("writing",), most=2),
        _events(*(_kill,) * 3, _leave, _freeze, _disconnect, _join_wide, _double, _weather, most=4),
    ),
    "crowding": _schedule(
        _hosts(room=st.sampled_from([2, 2.5, 4, 0])),
        _talks(("plain", "rewinding"), most=4, least=2),
        _events(_kill, _abandon, _leave, _join, _disconnect, least=0),
    ),
    "leaving": _schedule(
        _hosts(history=st.none() | st.sampled_from([0, 3000])),
        _talks(("plain", "rewinding", "rows", "hasty"), rows=st.integers(1, 2), most=3),
        _events(*(_leave,) * 4, _join, _join_wide, _kill, _freeze, _disconnect, _abandon, most=5),
    ),
    "pausing": _schedule(
        _hosts(history=st.none() | st.sampled_from([0, 3000])),
        _talks(("plain", "rewinding", "rows", "hasty"), rows=st.integers(1, 2), most=3),
        _events(*(_rest,) * 4, _join, _join_wide, _kill, _leave, _disconnect, _abandon, most=5),
    ),
    "losing": _schedule(
        _hosts(most_spares=1),
        _talks(("plain", "rewinding", "rows"), rows=st.integers(1, 2), most=2),
        _events(_kill, _leave, _kill),
        rescue=st.none(),
    ),
    "everything": _schedule(
        _hosts(history=st.none() | st.sampled_from([0, 3000])),
        _talks(("plain", "rewinding", "rows", "hasty"), rows=st.integers(1, 2), most=3),
        _events(
            *(_kill, _freeze, _disconnect, _leave, _join, _join_wide, _weather, _abandon, _double),
            most=5,
        ),
    ),
}
"""One strategy of schedules for each kind of trouble."""
