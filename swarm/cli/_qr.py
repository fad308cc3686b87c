"""An invite as a QR code on a terminal."""

from __future__ import annotations

import os
import sys
from itertools import zip_longest
from typing import Annotated

import typer

from swarm.qr import Modules, modules

QrOption = Annotated[
    bool | None,
    typer.Option(
        "--qr/--no-qr",
        help="Draw the invite as a QR code on stderr; by default where that is a terminal that"
        " has room for it.",
    ),
]

_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
"""Two modules above each other, by whether they are inked."""

_BLACK_ON_WHITE = "\x1b[38;5;16;48;5;231m"
_RESET = "\x1b[0m"


def draw(code: Modules, *, coloured: bool) -> str:
    """Lines of half blocks, two rows each.

    Not `coloured`, what is light is inked: on a dark background that comes out right.
    """
    lines = []
    for upper, lower in zip_longest(code[::2], code[1::2], fillvalue=[False] * len(code[0])):
        pairs = zip(upper, lower, strict=True)
        inked = (pair if coloured else (not pair[0], not pair[1]) for pair in pairs)
        line = "".join(_BLOCKS[pair] for pair in inked)
        lines.append(f"{_BLACK_ON_WHITE}{line}{_RESET}" if coloured else line)
    return "\n".join(lines)


def show(line: str, wanted: bool | None) -> None:
    """Draws an invite on standard error, or says why not; `wanted` as in `QrOption`."""
    terminal = _terminal()
    if wanted is False or (wanted is None and terminal is None):
        return
    code = modules(line)
    if code is None:
        typer.echo("No QR code: the invite is too long for one.", err=True)
    elif terminal is not None and (lacking := _lacking(code, terminal)):
        typer.echo(f"No QR code: {lacking}.", err=True)
    else:
        # Written past typer, which would take the colours away where it sees no terminal.
        sys.stderr.write(draw(code, coloured=terminal is not None) + "\n")
        sys.stderr.flush()


def _lacking(code: Modules, terminal: os.terminal_size) -> str:
    """What such a terminal lacks, if it does: half a code is none, and a wrapped one neither."""
    # The prompt that comes next takes a line.
    width, height = len(code[0]), (len(code) + 1) // 2 + 1
    if width <= terminal.columns and height <= terminal.lines:
        return ""
    return (
        f"it takes {width} columns and {height} lines, and this terminal has {terminal.columns}"
        f" and {terminal.lines}"
    )


def _terminal() -> os.terminal_size | None:
    try:
        return os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return None
