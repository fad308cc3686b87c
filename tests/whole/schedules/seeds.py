"""Schedules that once failed, each named after what was wrong; they stay."""

from __future__ import annotations

from schedule import (
    Abandon,
    After,
    AtFrame,
    AtToken,
    Back,
    Event,
    Host,
    Join,
    Kill,
    Leave,
    On,
    Say,
    Schedule,
    Talk,
)

SEEDS = {
    "two clients miss what somebody has just come for": Schedule(
        hosts=(Host((3, 4)), Host((1, 3)), Host((0, 2))),
        talks=(Talk(1, (Say(1),), seed=8, after=0.01), Talk(1, (Say(1),), seed=7)),
        events=(Event(After(0.0), Kill((On(1, 0), On(2, 3)))),),
        rescue=None,
    ),
    "a client that died does not know that it has": Schedule(
        hosts=(
            Host((0, 1), seconds=0.005, room=4),
            Host((1, 3), seconds=0.03, room=2),
            Host((2, 4), seconds=0.005, room=4),
        ),
        talks=(
            Talk(1, (Say(1),), after=0.3),
            Talk(34, (Say(8),), after=0.01),
            Talk(7, (Say(14),)),
        ),
        events=(
            Event(AtToken(2, 2), Abandon(2)),
            Event(After(0.0), Abandon(0, politely=False)),
        ),
        rescue=2.0,
        chunk_len=5,
    ),
    "one block has come back while another went": Schedule(
        hosts=(Host((0, 1)), Host((1, 2)), Host((2, 4)), Host((0, 1))),
        talks=(Talk(1, (Say(2), Say(1), Say(2)), after=0.01), Talk(1, (Say(2), Say(1), Say(2)))),
        events=(
            Event(AtToken(1, 1), Leave(On(0, 0))),
            Event(AtToken(1, 1), Kill((On(0, 0),))),
            Event(AtFrame("Hold", 1), Kill((On(0, 0),))),
        ),
        rescue=None,
    ),
    "one heir refuses while another is asked": Schedule(
        hosts=(
            Host((0, 2), 0.001, 2),
            Host((1, 3), 0.001, 2),
            Host((2, 3), 0.001, 2),
            Host((3, 4), 0.001, 2),
        ),
        talks=(Talk(1, (Say(2), Say(1), Say(2))), Talk(1, (Say(2), Say(1), Say(2)))),
        events=(
            Event(AtToken(0, 1), Leave(On(0, 1))),
            Event(AtToken(0, 1), Kill((On(0, 0),))),
        ),
        rescue=0.5,
    ),
    "an heir has missed more than one roll-back": Schedule(
        hosts=(Host((0, 1), 0.001), Host((1, 2), 0.001), Host((2, 4), 0.001)),
        talks=(Talk(1, (Say(2), Back(2), Say(2))),),
        events=(
            Event(AtToken(0, 1), Join(Host((0, 2), 0.001))),
            Event(AtToken(0, 2), Leave(On(0, 1))),
        ),
        rescue=0.5,
        chunk_len=8,
        shared=False,
    ),
}
