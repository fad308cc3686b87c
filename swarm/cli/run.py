"""`swarm run`: asks a swarm one thing."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from swarm.errors import RequestError, SwarmError

from . import _options
from ._asking import Asking, Choosing, MaxTokensOption, WaitOption
from ._options import JoinOption, ModelOption
from ._parameters import spread
from ._report import Report
from .chat.clean import clean
from .runner import run_async

if TYPE_CHECKING:
    from swarm.client import (
        ModelOptions,
        RemoteModel,
        SamplingConfig,
        SpeculationConfig,
        Swarm,
    )


_CHECK_PATIENCE = 30.0
"""Seconds for which an answer that is complete may be checked before its route is told."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="run")(spread(run))


def run(
    join: JoinOption,
    model: ModelOption,
    prompt: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    max_tokens: MaxTokensOption = 256,
    *,
    choosing: Choosing,
    raw: Annotated[bool, typer.Option("--raw", help="Apply no chat template.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write text, token ids, route and timings as JSON.")
    ] = False,
    wait: WaitOption = 20.0,
    asking: Asking,
) -> None:
    """Ask the group's swarm: the text goes to standard output, route and speeds to stderr."""
    from ._progress import progress, waiting

    with waiting("starting"):
        sampling = choosing.sampling(max_tokens)
        options, speculation = asking.options(progress()), asking.speculation()
    text = _standard_input() if prompt == "-" else prompt
    question = Question(_options.existing_model(model), text, raw, sampling, as_json, speculation)
    run_async(_ask(asking.joining(join, wait, _say_wait), question, options))


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise RequestError("the prompt on standard input is no UTF-8 text") from error


@dataclass(frozen=True)
class Question:
    """What is asked, of which model, and how the answer is to be written."""

    model: str
    prompt: str
    raw: bool
    sampling: SamplingConfig
    as_json: bool = False
    speculation: SpeculationConfig | None = None


async def _ask(
    joining: AbstractAsyncContextManager[Swarm], question: Question, options: ModelOptions
) -> None:
    from ._progress import JOINING, entering

    async with entering(joining, JOINING) as swarm:
        model = await swarm.model(question.model, options)
        await answer(swarm, model, question)


def _say_wait(error: SwarmError | None) -> None:
    """Tells the user why the text stands still."""
    typer.echo(
        "Going on." if error is None else f"Waiting: {_options.plain(str(error))} …", err=True
    )


async def answer(swarm: Swarm, model: RemoteModel, question: Question) -> None:
    """Streams the answer to standard output and tells of its route on standard error."""
    from swarm.client.energy import energy

    reply = await model.prepare(question.prompt, raw=question.raw)
    sent, received = swarm.traffic
    try:
        written = model.reply(reply, question.sampling, question.speculation)
        async with aclosing(written) as pieces:
            async for piece in pieces:
                if not question.as_json:
                    # To a file or a program it goes as it is.
                    sys.stdout.write(clean(piece) if sys.stdout.isatty() else piece)
                    sys.stdout.flush()
    finally:
        if reply.text and not question.as_json:
            sys.stdout.write("\n")
            sys.stdout.flush()
    # The text is out; what is drawn to be checked (most of the time nothing) is checked now.
    await swarm.audited(_CHECK_PATIENCE)
    found = await swarm.announcements()
    # They may have begun to tell only with this answer.
    reply.energy = energy(reply, found)
    names = {entry.peer: entry.name for entry in found}
    sent_now, received_now = swarm.traffic
    report = Report(reply, names, sent_now - sent, received_now - received)
    if question.as_json:
        typer.echo(json.dumps(report.as_json(question.model), ensure_ascii=False))
    else:
        report.show(Console(stderr=True))
