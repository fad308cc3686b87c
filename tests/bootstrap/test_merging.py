from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from swarm.bootstrap import merging
from swarm.membership.certificate import Role
from swarm.wire.enrolment import Entry

_times = st.sampled_from([1.0, 2.0, 3.0])
_entries = st.builds(
    Entry,
    member=st.just("m"),
    name=st.sampled_from(["pc", "pc-2", "pc-10"]),
    roles=st.sets(st.sampled_from(list(Role))).map(merging.ordered),
    joined=_times,
    renewed=_times,
    expires=_times,
    revoked=st.sampled_from([0.0, 1.0, 2.0]),
    issuer=st.sampled_from(["a", "b"]),
)


def content(entry: Entry) -> Entry:
    """What all authorities have to agree on."""
    return msgspec.structs.replace(entry, issuer="")


@given(_entries, _entries, _entries)
def test_the_order_of_telling_does_not_matter(one: Entry, two: Entry, three: Entry) -> None:
    forth = merging.merge(merging.merge(one, two), three)
    back = merging.merge(three, merging.merge(two, one))
    assert content(forth) == content(back)


@given(_entries, _entries)
def test_what_was_told_before_changes_nothing(one: Entry, two: Entry) -> None:
    merged = merging.merge(one, two)
    assert merging.merge(merged, two) == merging.merge(merged, one) == merged


@given(_entries, _entries)
def test_revoked_anywhere_is_revoked(one: Entry, two: Entry) -> None:
    assert bool(merging.merge(one, two).revoked) is bool(one.revoked or two.revoked)


@given(_entries, _entries)
def test_whoever_adds_a_role_answers_for_it(ours: Entry, theirs: Entry) -> None:
    added = set(theirs.roles) - set(ours.roles)
    assert merging.merge(ours, theirs).issuer == (theirs.issuer if added else ours.issuer)
