"""What `swarm bench` shows of a result, and what it does not accept."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from swarm import cli
from swarm.cli import _bench_plot, bench
from swarm.cli._bench_plot import draw
from swarm.cli._bench_progress import telling
from swarm.cli._bench_table import show, to_json
from swarm.client.benchmark.result import (
    Aggregate,
    Bandwidth,
    HopResult,
    LinkBytes,
    Memory,
    Reference,
    Result,
    StepResult,
)
from swarm.errors import ConfigError

RESULT = Result(
    model="tiny $x$ [b].gguf",
    dtype="bfloat16",
    quantize="int8",
    threads=1,
    prompt_len=512,
    decode_tokens_per_second=61.25,
    first_token_ms=640.0,
    prefill_tokens_per_second=905.5,
    aggregate=[Aggregate(1, 60.0), Aggregate(4, 151.0)],
    hops=[HopResult("peer-1", 0, 5, 6.5, 0.25), HopResult("peer-2", 5, 10, 6.75, 0.0)],
    step=StepResult(16.5, 13.25, 0.25, 0.75, 2.25, 0.5),
    links=[
        LinkBytes("client", "peer-1", 1217.0, True),
        LinkBytes("peer-1", "peer-2", 1229.0, False),
        LinkBytes("peer-2", "client", 1241.0, True),
    ],
    memory=[Memory("client", 300.0, 420.0, 60.0), Memory("peer-1", 500.0, None, 70.0)],
    reference=Reference(25.0, 800.0, 2.45, 1.13, {"1": 2.4, "4": 6.04}),
    bandwidth=Bandwidth(25.0, 269.0, 10.76, 92.9, 0.66),
    recoveries=2,
)
BARE = replace(RESULT, quantize=None, threads=None, memory=[], reference=None, bandwidth=None)


def run(*arguments: str):
    return CliRunner().invoke(cli.build(), ["bench", *arguments])


def test_json_is_the_whole_result():
    for result in (RESULT, BARE):
        read = msgspec.json.decode(to_json(result), type=Result, strict=True)
        assert read == result


def test_the_tables_show_it(capsys):
    show(RESULT)
    shown = capsys.readouterr().out
    for words in (
        "tiny $x$ [b].gguf, bfloat16, int8, 2 hops, 1 thread each",
        "61.2",
        "2.45",
        "4 sessions at once",
        "6.04",
        "≈ 1,229",
        "5:10",
        "420",
        "66 % of that limit",
        "mended 2 times",
    ):
        assert words in " ".join(shown.split()), words


def test_what_was_not_measured_is_not_shown(capsys):
    show(replace(BARE, recoveries=0))
    shown = capsys.readouterr().out
    assert "61.2" in shown
    for words in ("transformers", "ratio", "thread", "Memory", "limit", "mended"):
        assert words not in shown


@pytest.mark.parametrize("result", [RESULT, BARE], ids=["all", "bare"])
def test_the_plot_is_an_svg(result):
    picture = draw(result)
    root = ElementTree.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {"".join(each.itertext()).strip() for each in root.iter() if each.tag.endswith("text")}
    assert {"client", "wire", "queue", "compute", "sessions side by side"} <= texts
    assert ("transformers, one session" in texts) is (result.reference is not None)
    assert any("tiny $x$ [b].gguf" in text for text in texts)
    assert draw(result) == picture


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(_bench_plot, "find_spec", lambda _: None)
    for use in (_bench_plot.require, lambda: draw(RESULT)):
        with pytest.raises(ConfigError, match=r"homeswarm\[plot\]"):
            use()
    done = run("--plot", "x.svg")
    assert isinstance(done.exception, ConfigError)


def test_numbers_of_sessions_are_read():
    assert bench._numbers("1,2, 16") == (1, 2, 16) == bench._numbers("16,1,2,2")
    for text in ("", "0", "1,,2", "1,-2", "a", "1.5"):
        with pytest.raises(typer.BadParameter, match="1,2,4"):
            bench._numbers(text)


@pytest.mark.parametrize(
    "option", [["--peers", "2"], ["--quantize", "int8"], ["--kv-memory", "1GB"]]
)
def test_what_is_for_peers_of_ours_is_refused_for_others(option):
    done = run("--join", "hs1abc", *option)
    assert done.exit_code == 2 and option[0] in done.output


def test_a_shape_is_no_model():
    for other in (["--model", "a/b"], ["--revision", "main"]):
        assert run("--shape", "llama-3.2-1b", *other).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shape", "elephant"], "no shape elephant"),
        (["--dtype", "int3", "--model", "a/b"], "dtype int3"),
        (["--join", "hs1nonsense", "--model", "a/b"], "invite"),
        (["--tokens", "1", "--model", "./nowhere"], "no such file"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(arguments, words):
    done = run(*arguments)
    assert isinstance(done.exception, ConfigError) and words in str(done.exception)


def test_a_result_that_cannot_be_written_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be written"):
        bench._show(RESULT, str(tmp_path / "no" / "such.json"), None)


def test_a_log_gets_one_line_for_each_part(capsys):
    with telling() as say:
        say("Starting 3 peers", None)
        say("Round 1 of 2: prompt", 0.25)
        say("Round 1 of 2: 4 sessions", 0.5)
        say("Round 2 of 2: prompt", 0.75)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["Starting 3 peers", " 25 % Round 1 of 2", " 75 % Round 2 of 2"]


def test_the_command_line_starts_without_what_is_heavy():
    heavy = {"torch", "transformers", "matplotlib"}
    code = f"import sys, swarm.cli; swarm.cli.build(); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
