"""A conversation whose model is a script, for the terminal that a test looks at.

`python talking.py HISTORY`: the question chooses what the model does, see `_pieces`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from swarm.cli.chat.answering import Terms
from swarm.cli.chat.history import PrivateHistory
from swarm.cli.chat.keyboard import Keyboard
from swarm.cli.chat.models import Models
from swarm.cli.chat.screen import Screen
from swarm.cli.chat.talk import Talk
from swarm.cli.runner import run_async
from swarm.errors import NoRouteError

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x1b[H\x9b31mred\x1b]52;c;cm0gLXJm\x07 \u202ereversed\u202c",
    "\x1b",
    "[?1049h\rover\x08\x08",
)


@dataclass(frozen=True)
class Sampling:
    """As much of a `SamplingConfig` as is set."""

    max_new_tokens: int = 100
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass
class Reply:
    """As much of a `Reply` as is told."""

    messages: list[dict[str, str]]
    prompt_ids: list[int]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: str | None = None
    route: tuple[Any, ...] = ()
    distrusted: tuple[str, ...] = ()
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    tokens_per_second: float = 0.0
    num_recoveries: int = 0
    num_cached: int = 0


class Model:
    """Takes one token for each message."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.checkpoint = SimpleNamespace(name="scripted", close=lambda: None)
        self.key = SimpleNamespace(context_length=20, fingerprint="f" * 32)

    async def prepare(self, messages: list[dict[str, str]]) -> Reply:
        if messages[-1]["content"] == "very long":
            self._screen.note("Reading …")
            await asyncio.Future()
        return Reply(messages, list(range(len(messages))))

    async def reply(self, reply: Reply, *_: object) -> AsyncGenerator[str, None]:
        async for piece in self._pieces(reply):
            reply.text += piece
            reply.ids.append(0)
            yield piece

    async def _pieces(self, reply: Reply) -> AsyncGenerator[str, None]:
        question = reply.messages[-1]["content"]
        if question == "hostile":
            for piece in HOSTILE:
                yield piece
        elif question in ("slow", "long"):
            for number in range(50 if question == "slow" else 10_000):
                yield f"word{number} "
                await asyncio.sleep(0.01)
        elif question == "lost" and not reply.text:
            yield "first half,"
            raise NoRouteError(((1, 2),))
        elif question == "lost":
            yield " second half"
        elif question == "wait":
            error = NoRouteError(((3, 4),))
            self._screen.note(f"Waiting: {error} …")
            await asyncio.Future()
        else:
            # What the model was told, as it was told it.
            yield json.dumps([message["content"][:30] for message in reply.messages])


async def _talk(history: Path) -> None:
    async def announcements() -> tuple[()]:
        return ()

    swarm: Any = SimpleNamespace(traffic=(0, 0), announcements=announcements)
    screen = Screen()
    models = Models(swarm, SimpleNamespace())  # type: ignore[arg-type]
    models.names = ("a/model", "b/model")
    source = Keyboard(screen.note, lambda: models.names, PrivateHistory(history))
    terms = Terms(Sampling(), None)  # type: ignore[arg-type]
    await Talk(swarm, models, source, screen, terms).run(Model(screen))  # type: ignore[arg-type]


if __name__ == "__main__":
    run_async(_talk(Path(sys.argv[1])))
