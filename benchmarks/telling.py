"""What a benchmark found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console


def tell(result: object, target: str | None, show: Callable[[], None]) -> None:
    """Shows it and writes it to the file `target` as JSON too; `-` means JSON alone, to stdout."""
    if target == "-":
        Console().print_json(json.dumps(result))
        return
    show()
    if target:
        Path(target).write_text(json.dumps(result, indent=2) + "\n")
