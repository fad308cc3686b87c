from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from swarm import __version__
from swarm.cli import build, main
from swarm.cli.runner import Stopped, run_async
from swarm.errors import ConfigError

FAST_AND_LIGHT = """
import sys
from swarm.cli import main
sys.argv = ["swarm", *sys.argv[1:]]
try:
    main()
finally:
    heavy = ("torch", "hivemind", "transformers", "aiohttp")
    print("LOADED", *(name for name in heavy if name in sys.modules))
"""

STUBBORN = """
import asyncio, sys
from swarm.cli.runner import run_async
async def main():
    try:
        print("ready", flush=True)
        await asyncio.Future()
    finally:
        print("cleaning", flush=True)
        await asyncio.Future()
run_async(main())
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("arguments", [["--help"], ["bootstrap", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    result = run(FAST_AND_LIGHT, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "LOADED"


def test_version() -> None:
    assert f"swarm {__version__}" in run(FAST_AND_LIGHT, "--version").stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["bootstrap"], ["bootstrap", "--port", "x"]])
def test_wrong_arguments_exit_2(arguments: list[str]) -> None:
    assert run(FAST_AND_LIGHT, *arguments).returncode == 2


def test_errors_on_purpose_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = build()

    @app.command()
    def fail() -> None:
        raise ConfigError("this is wrong")

    monkeypatch.setattr("swarm.cli.build", lambda: app)
    monkeypatch.setattr(sys, "argv", ["swarm", "fail"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert capsys.readouterr() == ("", "swarm: error: this is wrong\n")


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    app = build()

    @app.command()
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("swarm.cli.build", lambda: app)
    monkeypatch.setattr(sys, "argv", ["swarm", "fail"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_a_result_comes_back() -> None:
    async def answer() -> int:
        return 42

    assert run_async(answer()) == 42


def test_a_cancellation_of_our_own_is_no_signal() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_async(cancelled())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_cleans_up(number: int) -> None:
    steps = []

    async def work() -> None:
        try:
            signal.raise_signal(number)
            await asyncio.Future()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    with pytest.raises(Stopped) as caught:
        run_async(work())
    assert caught.value.code == 128 + number
    assert steps == ["cleaned up"]


def test_the_second_signal_ends_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in ("ready", "cleaning"):
            assert process.stdout.readline().strip() == line
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
