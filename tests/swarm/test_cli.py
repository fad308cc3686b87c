"""The command line's own pieces: what it reads, and what it shows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from types import SimpleNamespace

import pytest
import typer
from rich.text import Text

from swarm import cli
from swarm.cli import _options, _progress, demo
from swarm.cli._local import LocalSwarm, parts
from swarm.cli.runner import Stopped, run_async
from swarm.cli.status import View, Wanted
from swarm.directory import Announcement, State
from swarm.errors import ConfigError, SwarmError
from swarm.overview import gaps
from swarm.transport.reach import Reach


def peer(start: int, end: int, state: State = State.SERVING, **changes) -> Announcement:
    values = {
        "peer": f"peer-{start}-{end}-{state}",
        "name": "garage",
        "model": "f" * 32,
        "model_name": "a/model",
        "num_blocks": 10,
        "start": start,
        "end": end,
        "state": state,
        "decode_seconds": 0.02,
        "prefill_seconds": 0.001,
        "free_positions": 50,
        "total_positions": 100,
    }
    return Announcement(**{**values, **changes})


def test_help_shows_every_word_of_itself():
    """What stands in brackets would be markup: `homeswarm[plot]` came out as `homeswarm`."""
    commands = typer.main.get_command(cli.build()).commands  # type: ignore[attr-defined]
    texts = [
        text
        for command in (*commands.values(), *commands["serve"].commands.values())
        for text in (command.help, *(getattr(each, "help", None) for each in command.params))
        if text
    ]
    assert len(texts) > 100
    assert [text for text in texts if Text.from_markup(text).plain != text] == []


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("0:10", (0, 10)), ("3:4", (3, 4))])
def test_blocks_are_read(text, expected):
    assert _options.blocks(text) == expected


@pytest.mark.parametrize("text", ["", "5", "5:5", "6:5", "-1:3", "a:b", "1:2:3", "1.5:2"])
def test_wrong_blocks_are_told(text):
    with pytest.raises(typer.BadParameter, match="START:END"):
        _options.blocks(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, 0),
        ("800000", 800_000),
        ("6GB", 6 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("512mib", 2**29),
        ("2b", 2),
    ],
)
def test_sizes_are_read(text, expected):
    assert _options.size(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "6 elephants", "1e400GB", "nan"])
def test_wrong_sizes_are_told(text):
    with pytest.raises(typer.BadParameter):
        _options.size(text)


def test_a_path_that_is_not_there_is_told_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        _options.existing_model(str(tmp_path / "model.gguf"))
    assert _options.existing_model("owner/name") == "owner/name"
    assert _options.existing_model(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 10)], ()),
        ([(0, 4), (4, 10)], ()),
        ([(0, 4), (6, 10)], ((4, 6),)),
        ([(2, 4), (3, 5)], ((0, 2), (5, 10))),
    ],
)
def test_gaps(spans, expected):
    assert gaps([peer(*span) for span in spans]) == expected


def test_who_is_loading_or_leaving_does_not_serve():
    entries = [peer(0, 5), peer(5, 10, State.LOADING), peer(5, 10, State.LEAVING)]
    assert gaps(entries) == ((5, 10),)


def test_two_revisions_under_one_name_are_not_mixed():
    halves = (peer(0, 5), peer(5, 10, model="e" * 32))
    wanted = Wanted("a/model")
    assert View(halves, wanted).missing() in (((5, 10),), ((0, 5),))
    assert View((*halves, peer(5, 10)), wanted).missing() == ()
    assert [e for e in halves if Wanted("a/model", "e" * 32).matches(e)] == [halves[1]]


def test_a_model_that_nobody_announces_is_missing_whole():
    assert View((), Wanted("a/model", "f" * 32, 10)).missing() == ((0, 10),)
    assert View((), Wanted("a/model")).missing() == ((0, 0),)


def test_the_table_shows_peers_and_gaps(capsys):
    View((peer(0, 4), peer(6, 10)), None).show()
    shown = capsys.readouterr().out
    assert "a/model" in shown and "garage" in shown
    assert "████······" in shown and "······████" in shown
    assert "Missing blocks 4:6" in shown and "50 %" in shown and "20.0" in shown


def test_reports_against_a_peer_are_shown(capsys):
    entry = peer(0, 10)
    view = View((entry,), None, reporters={entry.peer: 2, "somebody-else": 1})
    view.show()
    shown = capsys.readouterr().out
    assert "is reported for wrong results by 2 members" in " ".join(shown.split())
    assert view.as_json()["models"][0]["peers"][0]["reporters"] == 2
    View((entry,), None).show()
    assert "reported" not in capsys.readouterr().out


@pytest.mark.parametrize("reach", Reach)
def test_how_a_peer_is_reached_is_shown(capsys, reach):
    entry = peer(
        10, 40, name="living-room-pc", num_blocks=40, device="cuda:0", dtype="bfloat16", reach=reach
    )
    view = View((entry,), None)
    view.show()
    said = {Reach.UNKNOWN: "?", Reach.DIRECT: "direct", Reach.RELAYED: "relayed"}[reach]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "living" in line)
    assert line.strip("│ ").endswith(said)
    assert view.as_json()["models"][0]["peers"][0]["reach"] == reach


def test_what_others_call_themselves_is_no_markup(capsys):
    names = {"name": "[/b] [red]x[/]\x1b[31m", "model_name": "model[/i].gguf"}
    View((peer(0, 4, **names),), None).show()
    shown = capsys.readouterr().out
    assert "[/b] [red]x[/]" in shown and "model[/i].gguf" in shown and "\x1b" not in shown


def test_the_same_as_json():
    (model,) = json.loads(json.dumps(View((peer(0, 4),), None).as_json()))["models"]
    assert model["missing"] == [[4, 10]] and not model["complete"]
    (shown,) = model["peers"]
    assert (shown["start"], shown["end"], shown["state"]) == (0, 4, "serving")


def test_status_tells_the_power_of_all_where_a_table_has_no_room(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    measured = peer(0, 5, watts=31.0, energy="rapl")
    View((measured, peer(5, 10)), None).show()
    assert "2 peers serving, 31 W." in capsys.readouterr().out
    View((measured, peer(5, 10, watts=9.0, energy="estimate")), None).show()
    assert "2 peers serving, ~40 W." in capsys.readouterr().out
    View((peer(0, 10),), None).show()
    assert "1 peer serving." in capsys.readouterr().out


def test_parts_are_as_equal_as_can_be():
    assert parts(30, 3) == [(0, 10), (10, 20), (20, 30)]
    assert parts(4, 3) == [(0, 1), (1, 2), (2, 4)]
    assert parts(2, 5) == [(0, 1), (1, 2)]


def test_a_log_gets_lines_for_long_waits_only(capsys, monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(_progress.time, "monotonic", lambda: next(now))
    lines = _progress.Lines()
    lines.start(4_000_000, "downloading blocks 0:4")
    for _ in range(4):
        lines.advance(1_000_000)
    lines.finish()
    shown = capsys.readouterr().err.splitlines()
    assert shown == [f"downloading blocks 0:4: {n} % of 4 MB" for n in (25, 50, 75)]

    monkeypatch.setattr(_progress.time, "monotonic", lambda: 0.0)
    lines.start(4_000_000, "quick")
    lines.advance(4_000_000)
    assert not capsys.readouterr().err


def test_ctrl_c_ends_a_wait_in_a_thread():
    def work() -> None:
        lines = _progress.Lines()
        lines.start(10, "downloading")
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            lines.advance(0)
            time.sleep(0.01)

    with pytest.raises(Stopped) as caught:
        run_async(asyncio.to_thread(work))
    assert caught.value.code == 128 + signal.SIGINT
    assert run_async(asyncio.sleep(0, "works again")) == "works again"


def test_several_failures_at_once_are_told_in_lines(capsys, monkeypatch):
    def fail(*errors: Exception) -> None:
        def run() -> None:
            raise ExceptionGroup("several", [*errors])

        monkeypatch.setattr(cli, "build", lambda _: run)
        cli.main()

    with pytest.raises(SystemExit) as ended:
        fail(ConfigError("one"), ExceptionGroup("inner", [ConfigError("two"), ConfigError("one")]))
    assert ended.value.code == 1
    assert capsys.readouterr().err == "swarm: error: one\nswarm: error: two\n"
    with pytest.raises(ExceptionGroup):
        fail(ConfigError("one"), ZeroDivisionError())


def test_what_others_say_in_an_error_moves_no_cursor(capsys, monkeypatch):
    def run() -> None:
        raise SwarmError("declined:\x1b[2J\x9b31m so\nand so")

    monkeypatch.setattr(cli, "build", lambda _: run)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "swarm: error: declined:�[2J�31m so\nand so\n"


async def test_a_peer_of_the_demo_that_fails_takes_the_others_along(tmp_path):
    ended: list[str] = []

    class Child:
        pid = 1

        def __init__(self, name: str) -> None:
            self.name = name

        async def line(self) -> str:
            if self.name == "peer-2":
                raise SwarmError("peer-2 ended with code 1")
            try:
                await asyncio.Future()
            finally:
                ended.append(self.name)
            raise AssertionError

    async def start(name: str, arguments: list[str], secrets: dict[str, str]) -> Child:
        assert not set(secrets.values()) & set(arguments)
        return Child(name)

    with pytest.raises(SwarmError, match="peer-2 ended"):
        spans = parts(3, 3)
        swarm = LocalSwarm(SimpleNamespace(start=start), tmp_path, "demo")
        await demo._peers(swarm, "model", spans, print)
    assert sorted(ended) == ["peer-1", "peer-3"]
