"""What a peer says of itself when it begins: one screen of 80 columns, whatever it has to say."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace

import pyte
import pytest
import torch

from swarm.cli import _screen
from swarm.forms import Form
from swarm.peer.config import PeerConfig
from swarm.peer.load import Speed
from swarm.peer.pausing import Pause
from swarm.peer.placement import Reason
from swarm.transport.reach import Reach

LONG = "a-name-that-somebody-has-made-as-long-as-names-may-be-" * 4
V6 = "/ip6/2001:db8:85a3:1234:5678:8a2e:370:7334/tcp/65535/p2p/12D3KooWAoRvbxqEkzXQMfrAegpt7qpX6Aw"
LIMITS = {
    "max_memory": 60 * 10**9,
    "hours": ("mon-fri@18:30-23", "sat", "sun", "22-08"),
    "pause_when_busy": True,
    "leave_patience": 1234.5,
}


def peer(*, name, limits, reach, pause):
    config = PeerConfig(name=name, threads=128, **limits)
    entry = SimpleNamespace(
        model_name=name, num_blocks=126, start=100, end=126, total_positions=10**7
    )
    taken = SimpleNamespace(
        free=10**12, weights=10**11, kv=10**11, speed=Speed(1e-4, 1e-5), runner=None
    )
    return SimpleNamespace(
        config=config,
        announcement=lambda: entry,
        paused=pause is not None,
        pause=pause,
        taken=None if pause is not None else taken,
        taking=SimpleNamespace(
            device=torch.device("cpu"),
            form=Form.NONE if limits else Form.INT8,
            dtype=torch.bfloat16,
            reason=Reason.LAST,
            widens=bool(limits),
        ),
        neighbours=SimpleNamespace(upload_limit=1.25e6 if limits else 0.0),
        member=SimpleNamespace(
            group=SimpleNamespace(name=name),
            transport=SimpleNamespace(addresses=(V6,), reach=reach, relays=("a", "b")),
        ),
    )


@pytest.mark.parametrize(
    ("name", "limits", "reach", "pause"),
    list(
        itertools.product(
            ("spare-pc", LONG, LONG.replace("-", " "), "名前" * 40),
            ({}, LIMITS),
            (Reach.DIRECT, Reach.RELAYED, Reach.UNKNOWN),
            (None, Pause("others use this machine"), Pause("outside its hours", 2e9)),
        )
    ),
)
def test_it_fits_one_screen(capsys, name, limits, reach, pause):
    _screen.show(peer(name=name, limits=limits, reach=reach, pause=pause))
    said = capsys.readouterr().err
    screen = pyte.HistoryScreen(80, 24)
    pyte.Stream(screen).feed(said.replace("\n", "\r\n"))
    assert not screen.history.top, "has scrolled"
    # A terminal that had to break a line itself has used more rows than were written.
    assert screen.cursor.y == said.count("\n")
    shown = "\n".join(screen.display)
    assert "stop    Ctrl-C" in shown and "model   " in shown
    assert ("paused  " in shown) == (pause is not None)
    assert ("--quantize file" in " ".join(said.split())) == bool(limits)


def test_the_hours_are_those_of_this_place(capsys, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    _screen.show(peer(name="x", limits={"hours": ("22-08",)}, reach=Reach.DIRECT, pause=None))
    assert "hours 22-08 (IST)" in capsys.readouterr().err
    monkeypatch.undo()
    time.tzset()
