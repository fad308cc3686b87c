"""At which hours a peer serves: rules, borders, and nights in which clocks are put back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import ConfigError
from swarm.peer.hours import Hours

MADRID = ZoneInfo("Europe/Madrid")
RULES = st.lists(
    st.sampled_from(["22-08", "8-12:30", "sat,sun", "mon-fri@18:30-23", "fri-mon@23-1", "0-24"]),
    min_size=1,
    max_size=3,
)


def shown(zone):
    return lambda when: datetime.fromtimestamp(when, zone).timetuple()


def at(text, zone=UTC):
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("rules", "inside", "outside"),
    [
        (
            ["22-08"],
            ["2026-03-02 22:00", "2026-03-03 07:59"],
            ["2026-03-02 21:59", "2026-03-03 08"],
        ),
        (["18:30-23"], ["2026-03-02 18:30"], ["2026-03-02 18:29", "2026-03-02 23:00"]),
        (["sat,sun"], ["2026-03-07 00:00", "2026-03-08 23:59"], ["2026-03-06 23:59", "2026-03-09"]),
        (["0-24"], ["2026-03-07 00:00", "2026-03-08 23:59"], []),
        # The night belongs to the day on which it begins.
        (["fri@22-08"], ["2026-03-06 22:00", "2026-03-07 07:59"], ["2026-03-06 07:00"]),
        (["Fri-Mon@9-10"], ["2026-03-06 09:00", "2026-03-09 09:59"], ["2026-03-10 09:00"]),
        (["22-08", "sat,sun"], ["2026-03-07 12:00", "2026-03-02 23:00"], ["2026-03-02 12:00"]),
    ],
    ids=str,
)
def test_hours_hold_from_their_first_minute_to_their_last(rules, inside, outside):
    hours = Hours(rules, shown(UTC))
    assert all(hours.contain(at(when)) for when in inside)
    assert not any(hours.contain(at(when)) for when in outside)


@pytest.mark.parametrize(
    "text", ["", "22", "22-22", "25-08", "8:60-9", "24-3", "nightly", "sat@", "mon-", "22-08-09"]
)
def test_what_is_no_hours_is_told(text):
    with pytest.raises(ConfigError, match="write 22-08"):
        Hours([text])


@settings(deadline=None, max_examples=40)
@given(RULES, st.integers(0, 366 * 24 * 60))
def test_nothing_changes_before_the_next_change(rules, minute):
    hours = Hours(rules, shown(MADRID))
    now = at("2026-01-01", MADRID) + 60 * minute + 17
    change = hours.next_change(now)
    if change is None:
        assert all(hours.contain(now + 3600 * i) == hours.contain(now) for i in range(0, 168, 5))
        return
    assert now < change <= now + 8 * 86400
    assert hours.contain(change) is not hours.contain(now)
    for part in range(20):
        assert hours.contain(now + (change - 1 - now) * part / 20) is hours.contain(now)


def test_nights_are_as_long_as_the_clock_on_the_wall_says():
    hours = Hours(["22-08"], shown(MADRID))
    lengths = {}
    for day in ("2026-03-28", "2026-03-30", "2026-10-24"):
        begins = at(f"{day} 22:00", MADRID)
        lengths[day] = (hours.next_change(begins) - begins) / 3600
    assert lengths == {"2026-03-28": 9, "2026-03-30": 10, "2026-10-24": 11}
    # Clocks are put from 2 to 3: hours that end between begin no day too many.
    skipped = Hours(["22-02:30"], shown(MADRID))
    end = skipped.next_change(at("2026-03-28 22:00", MADRID))
    assert datetime.fromtimestamp(end, MADRID).time().isoformat() == "03:00:00"


def test_hours_that_never_end_have_no_next_change():
    assert Hours(["0-24"]).next_change(at("2026-03-07")) is None
    assert Hours(["mon-sun"]).contain(at("2026-03-07") + timedelta(days=3).total_seconds())
