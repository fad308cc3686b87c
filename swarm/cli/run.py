"""`swarm run`: asks a swarm one thing."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from swarm.errors import RequestError, SwarmError
from swarm.forms import Form

from . import _options
from ._options import (
    AuditOption,
    CacheOption,
    DraftOption,
    DtypeOption,
    JoinOption,
    MaxTokensOption,
    MinPOption,
    ModelOption,
    QuantizeOption,
    RepetitionPenaltyOption,
    RevisionOption,
    SeedOption,
    SpeculateOption,
    StopOption,
    TemperatureOption,
    ThreadsOption,
    TopKOption,
    TopPOption,
    WaitOption,
    WireOption,
)
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
    app.command(name="run")(run)


def run(
    join: JoinOption,
    model: ModelOption,
    prompt: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    max_tokens: MaxTokensOption = 256,
    temperature: TemperatureOption = 0.0,
    top_k: TopKOption = 0,
    top_p: TopPOption = 1.0,
    min_p: MinPOption = 0.0,
    repetition_penalty: RepetitionPenaltyOption = 1.0,
    seed: SeedOption = None,
    stop: StopOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Apply no chat template.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write text, token ids, route and timings as JSON.")
    ] = False,
    wait: WaitOption = 20.0,
    dtype: DtypeOption = "auto",
    wire: WireOption = "auto",
    quantize: QuantizeOption = Form.NONE,
    threads: ThreadsOption = 0,
    speculate: SpeculateOption = "auto",
    draft: DraftOption = None,
    audit: AuditOption = 0.01,
    revision: RevisionOption = None,
    cache: CacheOption = None,
) -> None:
    """Ask the group's swarm: the text goes to standard output, route and speeds to stderr."""
    from ._progress import progress, waiting

    with waiting("starting"):
        from swarm.client import ModelOptions, SamplingConfig, SpeculationConfig

    text = _standard_input() if prompt == "-" else prompt
    sampling = SamplingConfig(
        max_new_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop or ()),
    )
    small = _options.existing_model(draft) if draft else None
    options = ModelOptions(revision, dtype, cache, progress(), small, wire, quantize)
    speculation = SpeculationConfig.parse(speculate)
    question = Question(_options.existing_model(model), text, raw, sampling, as_json, speculation)
    run_async(_ask(join, question, options, Terms(wait, threads, audit)))


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


@dataclass(frozen=True)
class Terms:
    """How long to wait for missing blocks, in seconds, with how many threads of our own (0: all
    cores), and which part of the peers' work to check."""

    wait: float
    threads: int
    audit: float


async def _ask(invite: str, question: Question, options: ModelOptions, terms: Terms) -> None:
    import torch

    from swarm.client import AuditConfig, Swarm
    from swarm.client.config import SessionConfig

    from ._progress import JOINING, entering

    if terms.threads:
        torch.set_num_threads(terms.threads)
    joining = Swarm.join(
        invite,
        _options.asker(),
        session_config=SessionConfig(route_patience=terms.wait),
        on_wait=_say_wait,
        audit_config=AuditConfig(rate=terms.audit),
    )
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
