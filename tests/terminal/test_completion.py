"""Tab in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("torch", "transformers", "hivemind", "aiohttp", "cryptography", "numpy")


def test_what_completes_imports_nothing_heavy() -> None:
    code = (
        "import sys; from swarm.cli import build; build();"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_commands_options_values_and_files(terminal: Any, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("swarm")
    if not program.exists():
        pytest.skip("the command is not installed next to this Python")
    (tmp_path / "model.gguf").touch()
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PS1": "$ ",
    }
    with terminal("bash", "--norc", "--noprofile", "-i", environment=environment) as screen:
        screen.enter("cd; PS1='$ '; swarm --install-completion")
        screen.wait("completion installed")
        # A prompt that no earlier moment has shown.
        screen.enter("source ~/.bashrc; clear; PS1='# '")
        screen.wait(lambda s: s.cursor_line == "#")
        screen.type("swarm sta\t--wat\t")
        screen.wait("# swarm status --watch")
        screen.enter("\x15")
        screen.type("swarm peer --model mod\t--devi\t")
        screen.wait("--model model.gguf --device")
        screen.enter("\x15")
        screen.type("swarm peer --quantize in\t4\t")
        screen.wait("--quantize int4")
        screen.enter("\x15")
        screen.type("swarm invite --role adm\t")
        screen.wait("--role admin")
        screen.enter("\x15exit")
        screen.ended()
