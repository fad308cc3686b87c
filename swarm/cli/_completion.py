"""What a shell offers for the values of options; files are the shell's own, where this is nothing.

It runs anew for every press of Tab: nothing here imports what takes time, or asks the network.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import typer

_MOST = 200


def among(*values: str) -> Callable[[str], list[str]]:
    """Offers those of `values` that begin with what was typed."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def devices(incomplete: str) -> list[str]:
    """Kinds of devices, those of which there may be several with a first number."""
    return among("auto", "cpu", "cuda", "cuda:0", "mps", "xpu", "xpu:0")(incomplete)


def models(incomplete: str) -> list[str]:
    """Repositories of the Hugging Face cache, once something is typed that is no path."""
    if not incomplete or incomplete.startswith((".", "/", "~")):
        return []
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    try:
        kept = sorted(path.name for path in cache.glob("models--*--*"))
    except OSError:
        return []
    names = (name.removeprefix("models--").replace("--", "/", 1) for name in kept)
    return [name for name in names if name.startswith(incomplete)][:_MOST]


def members(context: typer.Context, incomplete: str) -> list[str]:
    """Names of living members and of open invites, where a bootstrap's folder is given."""
    folder = context.params.get("folder")
    if folder is None:
        return []
    ledger = Path(folder).expanduser().absolute() / "ledger"
    try:
        # Read only: looking for a name must not make a file, nor repair one.
        with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True, timeout=0.2)) as file:
            rows = file.execute(
                "SELECT name FROM members WHERE revoked = 0 UNION SELECT name FROM invites"
                " WHERE revoked = 0 AND uses > 0 ORDER BY name"
            )
            names = [str(name) for (name,) in rows]
    except (sqlite3.Error, ValueError):
        return []
    return [name for name in names if name and name.startswith(incomplete)][:_MOST]
