"""The command line: `swarm COMMAND`.

Each module in this folder that has a `register(app)` adds its commands. These modules are imported
for every command, so they import what is heavy (torch, libp2p) inside their functions.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from swarm import __version__, state
from swarm.errors import ConfigError, SwarmError

from ._options import plain

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def build(words: Sequence[str] = ()) -> typer.Typer:
    """The application with every command, or with the one alone that the first of `words` names.

    That one starts sooner, and so does the completion of its options. Words that begin with a dash
    name none.
    """
    names = {module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"}
    named = next((word for word in words if not word.startswith("-")), "")
    app = typer.Typer(
        name="swarm",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Run a large language model that fits on none of your machines, together.",
    )
    app.callback()(_set_up)
    for name in sorted({named} & names or names):
        register = getattr(importlib.import_module(f"{__name__}.{name}"), "register", None)
        if register is not None:
            register(app)
    return app


def main() -> None:
    """Entry point of the `swarm` command: 0 done, 1 failed, 2 wrong arguments."""
    # Downloads are shown by our own bars.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        build(_words())()
    except (SwarmError, ExceptionGroup) as error:
        for reason in _reasons(error):
            sys.stderr.write(f"swarm: error: {reason}\n")
        sys.exit(1)


def _words() -> list[str]:
    """What was typed after `swarm`: to run, or so far, to be completed (as Typer's scripts say)."""
    typed = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS")
    if "_SWARM_COMPLETE" not in os.environ or typed is None:
        return sys.argv[1:]
    # The word that is being typed names nothing yet.
    return typed.split()[1:] if typed[-1:].isspace() else typed.split()[1:-1]


def _reasons(error: SwarmError | ExceptionGroup[Exception]) -> list[str]:
    """What to tell, each once; an error that we did not raise on purpose is raised again."""
    if not isinstance(error, ExceptionGroup):
        return [plain(str(error))]
    if error.split(SwarmError)[1] is not None:
        raise error
    parts = (_reasons(part) for part in error.exceptions)  # type: ignore[arg-type]
    return list(dict.fromkeys(reason for part in parts for reason in part))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"swarm {__version__}")
        raise typer.Exit


def _set_up(
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, help="Log what happens to stderr; twice: in detail."
        ),
    ] = 0,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    logging.getLogger("swarm").setLevel(_LEVELS[min(verbose, len(_LEVELS) - 1)])
    _read_invite()


def _read_invite() -> None:
    """An invite may stand in a file: containers share one, and others see no environment of it."""
    name = os.environ.get("HOMESWARM_INVITE_FILE")
    if not name or os.environ.get("HOMESWARM_INVITE"):
        return
    content = state.read(Path(name))
    if content is None:
        raise ConfigError(f"{name}: no such file (HOMESWARM_INVITE_FILE)")
    os.environ["HOMESWARM_INVITE"] = content.decode(errors="replace").strip()
