"""How memory is divided, and what is remembered of the last run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import ConfigError
from swarm.peer.config import PeerConfig
from swarm.peer.memory import Budget, Memory
from swarm.peer.notes import Notes

GB = 10**9


def test_without_a_limit_it_is_what_is_free():
    budget = Budget(PeerConfig())
    assert budget.weights(Memory(10 * GB)) == 7 * GB
    assert budget.fixed(Memory(10 * GB)) == 10 * GB
    assert Budget(PeerConfig(memory=GB)).weights(Memory(10 * GB)) == GB
    assert Budget(PeerConfig(kv_memory=GB)).kv(Memory(10 * GB)) == GB


@given(
    limit=st.integers(GB, 64 * GB),
    free=st.integers(0, 64 * GB),
    program=st.integers(0, GB),
    weights=st.sampled_from([0, GB // 4]),
    kv=st.sampled_from([0, GB // 4]),
)
def test_all_together_stays_below_the_limit(limit, free, program, weights, kv):
    config = PeerConfig(max_memory=limit, memory=weights, kv_memory=kv)
    budget = Budget(config)
    took = budget.weights(Memory(free, program))
    assert took >= 0 and (not weights or took <= weights)
    try:
        pages = budget.kv(Memory(free - took, program + took))
    except ConfigError:
        return
    links, handler = budget.links(None), budget.handler(None)
    waiting = links.backlogs + handler.history_bytes + handler.member.all_inbox_bytes
    assert waiting < budget.working
    if took:
        assert program + took + pages + budget.working <= limit
        assert took + pages <= free


def test_options_that_cannot_hold_together_are_told():
    with pytest.raises(ConfigError, match="below max_memory"):
        PeerConfig(max_memory=GB, memory=GB // 2, kv_memory=GB // 2)
    tight = Budget(PeerConfig(max_memory=GB, kv_memory=GB // 2))
    with pytest.raises(ConfigError, match="do not fit"):
        tight.kv(Memory(free=10 * GB, taken=GB // 2))


def test_notes_are_of_one_model_and_survive_damage(tmp_path):
    Notes(tmp_path, "m").keep((3, 7))
    assert Notes(tmp_path, "m").span() == (3, 7)
    assert Notes(tmp_path, "other").span() is None and Notes(None, "m").span() is None
    (tmp_path / "served.json").write_text('{"model": "m", "start": 9, "end": 2}')
    assert Notes(tmp_path, "m").span() is None
    (tmp_path / "served.json").write_text("{")
    assert Notes(tmp_path, "m").span() is None
    Notes(tmp_path / "nowhere", "m").keep((3, 7))
