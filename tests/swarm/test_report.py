from __future__ import annotations

import io
import json

from rich.console import Console

from swarm.cli._report import Report
from swarm.client import Finish, Reply


def reply(**changes: object) -> Reply:
    values: dict[str, object] = {
        "ids": list(range(11)),
        "text": "some text",
        "finish": Finish.LENGTH,
        "hop_seconds": [(0.001, 0.004)],
        "prefill_seconds": 0.5,
        "decode_seconds": 1.0,
        "num_steps": 10,
    }
    return Reply([1, 2, 3], **{**values, **changes})  # type: ignore[arg-type]


def shown(of: Reply) -> str:
    console = Console(width=100, file=io.StringIO(), record=True)
    Report(of, {}, 10, 20).show(console)
    return console.export_text()


def test_guesses_are_told_of_where_there_were_any() -> None:
    assert "guesses" not in shown(reply())
    text = shown(reply(num_steps=4, num_drafted=9, num_accepted=6))
    assert "6 of 9 guesses came true, 4 steps instead of 10" in text


def test_the_peers_share_of_a_tokens_time_counts_the_tokens_of_a_step() -> None:
    assert "100.0 ms each, 5.0 ms of it" in shown(reply())
    assert "100.0 ms each, 2.0 ms of it" in shown(reply(num_steps=4))


def test_programs_are_told_as_well() -> None:
    report = Report(reply(num_steps=4, num_drafted=9, num_accepted=6), {}, 10, 20)
    assert json.loads(json.dumps(report.as_json("a/model")))["speculation"] == {
        "steps": 4,
        "drafted": 9,
        "accepted": 6,
    }
