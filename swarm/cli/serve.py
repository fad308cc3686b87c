"""`swarm serve`: other programs ask the swarm, over the APIs that they know."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.background import background
from swarm.errors import ConfigError

from . import _keys, _options
from ._asking import Asking, WaitOption
from ._keys import KeysFolderOption
from ._offers import Offer, announced, parse
from ._options import JoinOption
from ._parameters import spread
from ._service import ServeGroup
from .runner import Stopped, run_async

if TYPE_CHECKING:
    from swarm.client import ModelOptions, RemoteModel, SpeculationConfig, Swarm
    from swarm.gateway import Door, FallbackConfig, Gateway, GatewayConfig, Keys

_FALLBACK_KEY = "HOMESWARM_FALLBACK_KEY"


def register(app: typer.Typer) -> None:
    """Adds the command, and those below it."""
    group = typer.Typer(invoke_without_command=True, cls=ServeGroup)
    group.callback()(spread(serve))
    _keys.register(group)
    app.add_typer(group, name="serve")


def serve(
    context: typer.Context,
    join: JoinOption = "",
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MODEL",
            help="What to serve, and what clients are to call it; repeatable. By default every"
            " model that the group serves, now or later, and that has a repo id.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine's need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0: a free one.")] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]KEY",
            envvar="HOMESWARM_API_KEY",
            show_envvar=True,
            help="A key of your own for clients; repeatable. Others of this machine can read a"
            " command line, but not its environment.",
        ),
    ] = None,
    folder: KeysFolderOption = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM): serve https.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Web pages of this origin may ask; repeatable."),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Show a page to chat at, in a browser.")
    ] = True,
    most_running: Annotated[
        int, typer.Option(min=1, help="Answers that are made at a time; others wait.")
    ] = 32,
    most_waiting: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; others are refused.")
    ] = 128,
    most_waiting_each: Annotated[
        int, typer.Option(min=0, help="Of these, as many may be of one key.")
    ] = 64,
    most_choices: Annotated[int, typer.Option(min=1, help="Answers to one request (n).")] = 8,
    most_connections: Annotated[int, typer.Option(min=1, help="Connections at a time.")] = 512,
    most_body: Annotated[
        str, typer.Option(metavar="SIZE", help="Longest body of a request.")
    ] = "8MiB",
    patience: Annotated[
        float,
        typer.Option(min=1, metavar="SECONDS", help="For clients that stand still, then hang up."),
    ] = 60.0,
    drain: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="When stopped: how long running answers may go on."
        ),
    ] = 10.0,
    wait: WaitOption = 20.0,
    fallback: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="An endpoint of OpenAI's API that answers while the swarm has no route: PROMPTS"
            f" THEN LEAVE THE GROUP. Its key is taken from {_FALLBACK_KEY}.",
        ),
    ] = None,
    fallback_model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to ask it for; by default what was asked for."),
    ] = None,
    fallback_when_busy: Annotated[
        bool,
        typer.Option("--fallback-when-busy", help="It answers also while too many wait."),
    ] = False,
    *,
    asking: Asking,
) -> None:
    """Let other programs ask the swarm, over the APIs of OpenAI and Anthropic.

    On SIGUSR1 one line on stderr says what it holds: tasks, files, memory, requests.
    """
    if context.invoked_subcommand is not None:
        return
    if not join:
        # Not required as such: `swarm serve keys` needs none.
        raise typer.BadParameter("give the invite of the group", param_hint="--join")
    from ._progress import progress, waiting

    with waiting("starting"):
        from swarm.gateway import GatewayConfig
        from swarm.gateway.keys import KeyFile, Keys, given

        options, speculation = asking.options(progress()), asking.speculation()

    config = GatewayConfig(
        host=host,
        port=port,
        certificate=tls_cert,
        private_key=tls_key,
        origins=tuple(cors or ()),
        page=page,
        most_body=_options.size(most_body),
        most_running=most_running,
        most_waiting=most_waiting,
        most_waiting_each=most_waiting_each,
        most_choices=most_choices,
        most_connections=most_connections,
        patience=patience,
        wait=wait,
        drain=drain,
    )
    offers = parse(model or ())
    if (asking.revision or asking.draft) and len({offer.source for offer in offers}) != 1:
        raise typer.BadParameter("--revision and --draft need one --model, to which they belong")
    keys = Keys(given(api_key or ()), KeyFile(folder or _keys.default_folder()))
    outside = _fallback(fallback, fallback_model, config, when_busy=fallback_when_busy)
    with suppress(Stopped):
        listening = Listening(config, keys, speculation, outside)
        run_async(_serve(asking.joining(join, wait), offers, options, listening))


def _fallback(
    url: str | None, model: str | None, config: GatewayConfig, *, when_busy: bool
) -> FallbackConfig | None:
    from swarm.gateway import FallbackConfig

    if url is None:
        if model or when_busy:
            raise typer.BadParameter("say which with --fallback URL", param_hint="--fallback-…")
        return None
    return FallbackConfig(
        url,
        os.environ.get(_FALLBACK_KEY),
        model,
        when_busy,
        most_running=config.most_running,
        most_choices=config.most_choices,
    )


@dataclass(frozen=True)
class Listening:
    """Where clients are heard, and which; what is guessed for them, and who else answers them."""

    config: GatewayConfig
    keys: Keys
    speculation: SpeculationConfig
    fallback: FallbackConfig | None = None


async def _serve(
    joining: AbstractAsyncContextManager[Swarm],
    offers: tuple[Offer, ...],
    options: ModelOptions,
    listening: Listening,
) -> None:
    from swarm.gateway import Door, Metrics, serve

    from . import _census
    from ._newcomers import Newcomers
    from ._progress import JOINING, entering

    config = listening.config
    with Door.opened(config, listening.keys) as door, _census.told_on_signal() as census:
        async with entering(joining, JOINING) as swarm:
            models = await _open(swarm, offers, options, config.wait)
            metrics = Metrics()
            metrics.watch_traffic(lambda: swarm.traffic)
            metrics.watch_client(swarm.metrics)
            serving = serve(
                models,
                keys=listening.keys,
                door=door,
                speculation=listening.speculation,
                metrics=metrics,
                fallback=listening.fallback,
                swarm=swarm,
            )
            async with serving as gateway, background() as tasks:
                census.add(lambda: _census.of_gateway(gateway))
                _tell(gateway, list(models), door, keyed=listening.keys.required)
                if not offers:
                    newcomers = Newcomers(swarm, models, lambda name: _opened(swarm, name, options))
                    tasks.create_task(newcomers.run(gateway.core.add))
                with _told_leaving(gateway, config.drain):
                    await asyncio.Future()


async def _open(
    swarm: Swarm, offers: tuple[Offer, ...], options: ModelOptions, wait: float
) -> dict[str, RemoteModel]:
    """Opens what is to be served: each model once, under all of its names.

    Of models that nobody has named, one that opens is enough.
    """
    named = bool(offers)
    if not named:
        typer.echo("Joined the group. Looking for its models …", err=True)
        offers = await announced(swarm, wait)
    opened: dict[str, RemoteModel] = {}
    failure: ConfigError | None = None
    for source in dict.fromkeys(offer.source for offer in offers):
        typer.echo(f"Opening {_options.plain(source)} …", err=True)
        try:
            opened[source] = await _opened(swarm, source, options)
        except ConfigError as error:
            if named:
                raise
            failure = error
            typer.echo(f"Not served: {_options.plain(str(error))}", err=True)
    if not opened and failure is not None:
        raise failure
    return {offer.name: opened[offer.source] for offer in offers if offer.source in opened}


async def _opened(swarm: Swarm, source: str, options: ModelOptions) -> RemoteModel:
    model = await swarm.model(source, options)
    # Read now, not while the first one who asks waits for it.
    await asyncio.to_thread(model.checkpoint.tokenizer)
    if missing := await model.missing():
        gaps = ", ".join(f"{start}:{end}" for start, end in missing)
        line = f"Nobody serves blocks {gaps} of this {_options.plain(source)} yet."
        typer.echo(line, err=True)
    return model


def _tell(gateway: Gateway, names: list[str], door: Door[GatewayConfig], *, keyed: bool) -> None:
    typer.echo(f"serving {', '.join(names)} at {gateway.url}/v1")
    if door.config.page:
        typer.echo(f"Chat at {gateway.url}/", err=True)
    lines = [f"  curl {gateway.url}/v1/chat/completions -H 'Content-Type: application/json' \\"]
    if keyed:
        lines.append("    -H 'Authorization: Bearer KEY' \\")
    question = '{"role": "user", "content": "Why is the sky blue?"}'
    lines.append(f'    -d \'{{"model": "{names[0]}", "messages": [{question}]}}\'')
    typer.echo("\n".join(["Try it:", *lines]), err=True)
    if not door.config.is_local and door.tls is None:
        typer.echo(
            "Keys and texts cross the network as they are: --tls-cert and --tls-key seal them.",
            err=True,
        )


@contextmanager
def _told_leaving(gateway: Gateway, drain: float) -> Iterator[None]:
    try:
        yield
    finally:
        if number := gateway.num_running:
            typer.echo(
                f"Stopping. {number} running request{'s' * (number > 1)} may go on for"
                f" {drain:g} s; Ctrl-C again ends at once …",
                err=True,
            )
