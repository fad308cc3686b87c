"""A gateway that serves with a fallback, from the command line to the answer."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from swarm import cli
from swarm.cli import serve as command
from swarm.gateway import FallbackConfig, GatewayConfig
from swarm.gateway.service import serve

HELLO = [{"role": "user", "content": "hello"}]
CHUNKS = (
    {"choices": [{"index": 0, "delta": {"content": "Hi"}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
)


class Gapped:
    """A model of which nobody serves the second block."""

    class key:  # As a `ModelKey`.
        context_length = 64

    async def missing(self) -> tuple[tuple[int, int], ...]:
        return ((1, 2),)


async def _asked(fallback: FallbackConfig | None, **body: Any) -> tuple[int, dict[str, str], str]:
    """A gateway's answer: status, headers, text."""
    models: Any = {"tiny": Gapped()}
    config = GatewayConfig(port=0, wait=0)
    body = {"model": "tiny", "messages": HELLO, **body}
    async with serve(models, config, fallback=fallback) as gateway:
        async with aiohttp.ClientSession() as session:
            url = f"{gateway.url}/v1/chat/completions"
            async with session.post(url, json=body) as answer:
                return answer.status, dict(answer.headers), await answer.text()


async def test_it_answers_while_there_is_a_gap(upstream: Any) -> None:
    upstream.says(*CHUNKS)
    status, headers, text = await _asked(FallbackConfig(upstream.url))
    assert status == 200 and headers["X-Homeswarm-Answered-By"] == "fallback" and "Hi" in text
    assert upstream.asked["messages"] == HELLO


async def test_nothing_leaves_the_group_unless_it_is_turned_on(
    upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm.gateway.core.prepare", lambda model, ask: None)
    status, headers, _ = await _asked(None)
    assert status == 503 and "X-Homeswarm-Answered-By" not in headers
    assert int(headers["Retry-After"]) > 0 and not upstream.requests


async def test_models_that_are_not_served_are_nobodys(upstream: Any) -> None:
    status, _, _ = await _asked(FallbackConfig(upstream.url), model="another")
    assert status == 404 and not upstream.requests


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, Any]:
    """The command's code, and whom it would have listened for."""
    given: list[Any] = []

    async def note(joining: Any, offers: Any, options: Any, listening: Any) -> None:
        given.append(listening)

    monkeypatch.setattr(command, "_serve", note)
    result = CliRunner().invoke(cli.build(), ["serve", "--join", "x", *arguments])
    return result.exit_code, given[0] if given else result.output


def test_it_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMESWARM_FALLBACK_KEY", "sesame")
    code, listening = _run(monkeypatch)
    assert code == 0 and listening.fallback is None


def test_its_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMESWARM_FALLBACK_KEY", "sesame")
    url = "https://far.example/v1"
    code, listening = _run(
        monkeypatch, "--fallback", url, "--fallback-model", "large", "--most-running", "7"
    )
    assert code == 0
    assert listening.fallback == FallbackConfig(url, "sesame", "large", most_running=7)
    code, listening = _run(monkeypatch, "--fallback", url, "--fallback-when-busy")
    assert listening.fallback.when_busy and listening.fallback.model is None


@pytest.mark.parametrize(
    "arguments", [["--fallback-model", "large"], ["--fallback-when-busy"]], ids=str
)
def test_options_of_nothing_are_refused(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    code, output = _run(monkeypatch, *arguments)
    assert code == 2 and "--fallback" in output
