"""Options and wording that several commands share."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from swarm.errors import ConfigError

from . import _completion

if TYPE_CHECKING:
    from swarm.member import JoinConfig
    from swarm.membership.certificate import Role

JoinOption = Annotated[
    str,
    typer.Option(
        "--join",
        metavar="INVITE",
        envvar="HOMESWARM_INVITE",
        show_envvar=True,
        help="The invite, hs1…, with which this machine joins the group, or has joined it.",
    ),
]

ModelOption = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="A Hugging Face repo id, a folder with safetensors, or a .gguf file.",
        autocompletion=_completion.models,
    ),
]

RevisionOption = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a Hugging Face repo.")
]

CacheOption = Annotated[
    Path | None, typer.Option("--cache", help="Keeps what is downloaded of models.")
]


_LEAST_RATE = 32_000
"""Bytes per second: with less, heartbeats and the directory leave nothing for anything else."""


def blocks(text: str | None) -> tuple[int, int] | None:
    """Reads `START:END`; raises `typer.BadParameter` on anything else."""
    if text is None:
        return None
    start, colon, end = text.partition(":")
    if not colon or not start.isdecimal() or not end.isdecimal() or int(start) >= int(end):
        raise typer.BadParameter("blocks are given as START:END, for example 0:10")
    return int(start), int(end)


def size(text: str | None) -> int:
    """Reads a size such as `6GB`, `512MiB` or `800000` in bytes; None is 0."""
    if text is None:
        return 0
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    units |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
    number = text.strip().rstrip("abgikmtABGIKMT").strip()
    unit = text.strip()[len(number) :].strip().lower()
    try:
        value = int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no size; write for example 6GB") from None
    if value <= 0:
        raise typer.BadParameter("a size is more than 0")
    return value


def rate(text: str | None) -> float:
    """Reads a rate such as `20Mbit` or `2MB/s` in bytes per second; None is 0."""
    if text is None:
        return 0.0
    # "b" alone is a byte, as in sizes; a bit is always written out.
    plain = text.strip().lower().removesuffix("/s")
    bits = plain.endswith("bit")
    digits = plain.removesuffix("bit") + "b" if bits else plain
    try:
        found = size(digits) / (8 if bits else 1)
    except typer.BadParameter:
        found = 0.0
    if found < _LEAST_RATE:
        raise typer.BadParameter(
            f"{text!r} is no rate; write for example 20Mbit or 2MB/s, and at least 256kbit"
        )
    return found


def place(text: str, option: str) -> tuple[str, int]:
    """Reads `[HOST:]PORT` where a server is to listen; the host is "" where only a port is given.

    Raises `typer.BadParameter` in the name of the option on anything else.
    """
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdecimal() or not 0 <= int(port) < 1 << 16:
        raise typer.BadParameter(
            "give [HOST:]PORT, for example 9100 or 0.0.0.0:9100", param_hint=option
        )
    return host.strip("[]"), int(port)


def asker(role: Role | None = None) -> JoinConfig:
    """How a command joins that only asks: in this machine's name, or to become what `role` says."""
    from swarm.member import JoinConfig

    return JoinConfig(asks=True, name=host_name(), role=role)


def host_name() -> str:
    """What this machine would like to be called in a group, where its invite leaves that open."""
    return platform.node()


def existing_model(model: str) -> str:
    """`model`, unless it looks like a path and nothing is there: a `ConfigError` says so early."""
    looks_local = model.startswith((".", "/", "~")) or model.endswith(".gguf")
    if looks_local and not Path(model).expanduser().exists():
        raise ConfigError(f"{model}: no such file or folder")
    return model


def plain(text: str) -> str:
    """An error for a terminal: words of others in it move no cursor and set no colour."""
    kept = "\n\t"
    return "".join(
        each if each.isprintable() or each in kept else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def shown(text: str) -> str:
    """`text` from a user, a file or another member, as rich shows it: no markup, no controls."""
    return escape(
        "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    )
