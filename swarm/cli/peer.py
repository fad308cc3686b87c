"""`swarm peer`: contributes this machine to a model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from swarm.forms import Form

from . import _completion, _metrics, _options
from ._contribution import Contribution, Numbers, Source
from ._metrics import MetricsKeyOption, MetricsOption
from ._options import CacheOption, JoinOption, RevisionOption
from ._service import PeerCommand
from .runner import Stopped, run_async


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="peer", cls=PeerCommand)(peer)


def peer(
    join: JoinOption,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A Hugging Face repo id, a folder with safetensors, or a .gguf file; else the"
            " model of this group that needs it most.",
            autocompletion=_completion.models,
        ),
    ] = None,
    blocks: Annotated[
        str | None,
        typer.Option(
            metavar="START:END", help="Serve these blocks; otherwise those that are needed most."
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Compute threads; 0: all cores of this process.")
    ] = 0,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, mps or xpu.", autocompletion=_completion.devices),
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            help="auto, bfloat16, float16 or float32.",
            autocompletion=_completion.among("auto", "bfloat16", "float16", "float32"),
        ),
    ] = "auto",
    quantize: Annotated[
        Form,
        typer.Option(
            help="Weights in fewer bits; file: in as many as the .gguf file has. See"
            " docs/quantization.md."
        ),
    ] = Form.NONE,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Keeps this peer's identity and membership; one process each."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="What it would like to be called, where its invite does not say; else the host's"
            " name."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="For weights, such as 6GB; else what is free."),
    ] = None,
    kv_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="For running sessions; else a quarter.")
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="For all that this peer takes: weights, sessions, work, the program itself.",
        ),
    ] = None,
    max_upload: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", help="For everything that this peer sends, such as 20Mbit or 2MB/s."
        ),
    ] = None,
    hours: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOURS",
            help="Serve only then, in local time: 22-08, sat,sun or mon-fri@18:30-23; repeatable.",
        ),
    ] = None,
    pause_when_busy: Annotated[
        bool, typer.Option(help="Pause while somebody else uses this machine's CPU or GPU.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0: a free one.")] = 0,
    announce: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            envvar="HOMESWARM_ANNOUNCE",
            show_envvar=True,
            help="HOST:PORT that reaches this machine from outside; repeatable.",
        ),
    ] = None,
    map_port: Annotated[
        bool, typer.Option(help="Ask the router to forward the port (UPnP, NAT-PMP).")
    ] = True,
    grace: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="When this peer is stopped: how long running answers may take to go on elsewhere.",
        ),
    ] = 30.0,
    keep_prefixes: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How long to keep what answers have computed, for the next turn of the same"
            " conversation, while nobody needs the room; 0: not at all.",
        ),
    ] = 3600.0,
    audit: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="RATE",
            help="While no answers run here: part of the time in which this peer has others compute"
            " what it can compute itself, and compares.",
        ),
    ] = 0.0,
    relay: Annotated[
        bool, typer.Option(help="Relay for peers that nobody can dial, where this one can be.")
    ] = True,
    relay_rate: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Bytes per second that each member may send through this relay."
        ),
    ] = None,
    metrics: MetricsOption = None,
    metrics_key: MetricsKeyOption = None,
    watts: Annotated[
        float,
        typer.Option(
            min=0,
            max=1e5,
            help="What this machine draws under full load, for estimates where it has no meters;"
            " 0: not known.",
        ),
    ] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON for each change of what is served.")
    ] = False,
    revision: RevisionOption = None,
    cache: CacheOption = None,
) -> None:
    """Contribute this machine: load blocks of MODEL and serve them to the group.

    On SIGUSR1 one line on stderr says what it holds: sessions, pages, links, tasks, files, memory.
    """
    from swarm.invite import Invite
    from swarm.member import JoinConfig
    from swarm.peer.config import PeerConfig
    from swarm.state import default_folder
    from swarm.transport.relay_config import RelayConfig

    config = PeerConfig(
        name=name if name is not None else _options.host_name(),
        blocks=_options.blocks(blocks),
        device=device,
        dtype=dtype,
        quantize=quantize,
        threads=threads,
        memory=_options.size(memory),
        kv_memory=_options.size(kv_memory),
        leave_patience=grace,
        audit=audit,
        max_memory=_options.size(max_memory),
        hours=tuple(hours or ()),
        pause_when_busy=pause_when_busy,
    )
    place = JoinConfig(
        folder=folder or default_folder() / "peer",
        name=config.name,
        host=host,
        port=port,
        announce=tuple(announce or ()),
        map_port=map_port,
        upload=_options.rate(max_upload),
        relay=RelayConfig(serve=relay, rate=_options.size(relay_rate) or RelayConfig.rate),
    )
    contribution = Contribution(
        Invite.decode(join),
        place,
        Source(model and _options.existing_model(model), revision, cache),
        config,
        Numbers(_metrics.config(metrics, metrics_key), watts),
        keep_prefixes,
        as_json,
    )
    with suppress(Stopped):
        run_async(contribution.give())
