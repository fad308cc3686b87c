"""`--install-service` and what belongs to it, for commands that are meant to go on and on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from swarm import state
from swarm.service import Service, named
from swarm.service.installation import Manager, manager

from ._options import existing_model

_NAMES = ("install_service", "uninstall_service", "print_service")


def _options(
    install_service: Annotated[
        bool,
        typer.Option(
            "--install-service",
            help="Have the system run exactly this, now and whenever you log in: systemd (Linux) or"
            " launchd (macOS). Again: replaces it.",
        ),
    ] = False,
    uninstall_service: Annotated[
        bool,
        typer.Option(
            "--uninstall-service", help="Stop that, and remove it; needs only the same --dir."
        ),
    ] = False,
    print_service: Annotated[
        bool, typer.Option("--print-service", help="Only show what would be installed.")
    ] = False,
) -> None:
    """The options as typer reads them."""


_SAID = ("COMMANDLINE", "ENVIRONMENT")
"""Sources of options; typer has brought click along under another name since 0.24."""

_MODELS = ("model", "draft")
"""Options that name a repository or a path."""

_KEPT = re.compile(
    r"(HF|CUDA|NVIDIA|HIP|ROCR|OMP|MKL|PYTORCH|HOMESWARM)_\w+"
    r"|XDG_(STATE|CACHE|CONFIG)_HOME|LD_LIBRARY_PATH|LANG|LC_ALL|SSL_CERT_(FILE|DIR)"
    r"|((https?|no|all)_proxy)",
    re.IGNORECASE,
)
"""Of the environment: what models, devices, folders and the network are found by."""

_LEAVING_S = 30.0
"""Beyond what a command promises to those whom it serves: for ending everything else."""

_GAINS_RIGHTS = ("/usr/bin/nvidia-modprobe",)
"""Programs that CUDA starts, as root, to make its devices on a machine without a screen."""


if TYPE_CHECKING:
    _Base = TyperCommand
else:
    # Beside a command or a group, which have this in common.
    _Base = object


class _Installable(_Base):
    """A command with the three options; what it is called with is what is installed."""

    patience: ClassVar[str | None] = None
    """The option that says for how long it goes on after it was told to stop."""

    yields: ClassVar[bool] = False

    port: ClassVar[int | None] = None
    """Where several may share a folder: the port of the one that is called plainly."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        alone = typer.Typer(add_completion=False)
        alone.command()(_options)
        self.params += (
            each for each in typer.main.get_command(alone).params if each.name in _NAMES
        )

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual, but for a removal nothing is required."""
        asked = args[: args.index("--")] if "--" in args else args
        if "--uninstall-service" not in asked:
            return super().parse_args(ctx, args)
        ctx.resilient_parsing = True
        try:
            return super().parse_args(ctx, args)
        finally:
            ctx.resilient_parsing = False

    def invoke(self, ctx: Any) -> Any:
        """The command itself, unless its installation is asked for."""
        asked = [name for name in _NAMES if ctx.params.pop(name, False)]
        if not asked:
            return super().invoke(ctx)
        if len(asked) > 1 or ctx.invoked_subcommand or getattr(ctx, "_protected_args", ()):
            raise typer.BadParameter("one of these, and nothing else", param_hint="--…-service")
        if asked[0] == "install_service":
            _check(ctx)
        system, service = manager(), self._service(ctx)
        for line in _done(system, service, asked[0]):
            typer.echo(line, err=asked[0] != "print_service")
        return None

    def _service(self, ctx: typer.Context) -> Service:
        command = self.name or ""
        usual = (state.default_folder() / _folder_name(command)).absolute()
        folder = (ctx.params.get("folder") or usual).absolute()
        port = ctx.params.get("port")
        marks = () if self.port is None or port == self.port else (str(port),)
        arguments, secrets = _parted(ctx)
        program = (sys.executable, "-P", "-m", "swarm.cli", *_verbosity(ctx))
        if "--dir" not in arguments:
            # Whatever the environment says of folders later.
            arguments += ["--dir", str(folder)]
        patience = ctx.params.get(self.patience) if self.patience else None
        return Service(
            name=named(command, folder, usual, *marks),
            description=f"Homeswarm: {command} {folder.name}",
            command=(*program, command, *arguments),
            environment={**_kept(), **secrets},
            folder=folder,
            stop_timeout=float(patience or 0.0) + _LEAVING_S,
            yields=self.yields,
            confined=not _needs_rights(ctx),
        )


class PeerCommand(_Installable, TyperCommand):
    """`swarm peer`: the owner's own programs go first."""

    patience = "grace"
    yields = True


class BootstrapCommand(_Installable, TyperCommand):
    """`swarm bootstrap`."""


class ServeGroup(_Installable, TyperGroup):
    """`swarm serve`: gateways share the folder of their keys."""

    patience = "drain"
    port = 8000


def _done(system: Manager, service: Service, asked: str) -> Sequence[str]:
    match asked:
        case "print_service":
            return [system.text(service).rstrip("\n")]
        case "install_service":
            return system.install(service)
        case _:
            return system.uninstall(service)


def _check(ctx: typer.Context) -> None:
    """What would fail only later, with nobody there who reads it; raises as the command does."""
    from swarm.invite import Invite

    if join := ctx.params.get("join"):
        Invite.decode(join)
    models = ctx.params.get("model") or ()
    for model in [models] if isinstance(models, str) else models:
        existing_model(_anywhere(model))


def _folder_name(command: str) -> str:
    return "gateway" if command == "serve" else command


def _parted(ctx: typer.Context) -> tuple[list[str], dict[str, str]]:
    """What was said: as arguments, and what must not be seen among them as an environment."""
    arguments: list[str] = []
    secrets: dict[str, str] = {}
    for option in ctx.command.params:
        name = option.name or ""
        source = ctx.get_parameter_source(name)
        if name in _NAMES or source is None or source.name not in _SAID:
            continue
        values = list(_texts(option, ctx.params[name]))
        if isinstance(option.envvar, str):
            secrets[option.envvar] = " ".join(values)
            continue
        for value in values:
            arguments += _argument(option, value)
    return arguments, secrets


def _texts(option: Any, value: Any) -> Iterator[str]:
    """An option's values as they would be typed from any folder."""
    for each in value if isinstance(value, list | tuple) else (value,):
        if isinstance(each, Path):
            yield str(each.expanduser().absolute())
        elif option.name in _MODELS:
            yield _anywhere(str(each))
        else:
            yield str(each.value if isinstance(each, Enum) else each)


def _argument(option: Any, value: str) -> list[str]:
    if option.is_flag:
        return [option.opts[0] if value == "True" else option.secondary_opts[0]]
    # In one word: a value may begin with a dash.
    return [option.opts[0], value] if not value.startswith("-") else [f"{option.opts[0]}={value}"]


def _anywhere(model: str) -> str:
    """A model's path as an absolute one, behind what it is to be called where that is said."""
    if Path(model).expanduser().exists():
        return str(Path(model).expanduser().absolute())
    name, equals, source = model.partition("=")
    if equals and Path(source).expanduser().exists():
        return f"{name}={Path(source).expanduser().absolute()}"
    return model


def _verbosity(ctx: typer.Context) -> list[str]:
    above = ctx.parent.params.get("verbose", 0) if ctx.parent is not None else 0
    return ["--verbose"] * int(above or 0)


def _kept() -> dict[str, str]:
    """What of this environment it needs; `HOMESWARM_INVITE_FILE` has been read."""
    return {
        name: value
        for name, value in os.environ.items()
        if _KEPT.fullmatch(name) and name != "HOMESWARM_INVITE_FILE"
    }


def _needs_rights(ctx: typer.Context) -> bool:
    if ctx.params.get("device", "cpu") not in ("auto", "cuda"):
        return False
    return any(Path(program).exists() for program in _GAINS_RIGHTS)
