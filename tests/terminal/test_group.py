"""A group of real processes, seen from terminals: peers die while somebody talks and looks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SWARM = [sys.executable, "-m", "swarm.cli"]
HERE = ["--host", "127.0.0.1", "--no-map-port"]
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}answer:"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_byte_level: Callable[..., Any]) -> Path:
    """A tiny random llama that talks bytes, of four blocks."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    tokenizer = make_byte_level(template=TEMPLATE)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Group:
    """A bootstrap and peers, by name."""

    def __init__(self, folder: Path, model: Path) -> None:
        homes = {f"XDG_{name}_HOME": str(folder / name) for name in ("STATE", "CACHE", "CONFIG")}
        self.environment = os.environ | homes | {"OMP_NUM_THREADS": "1"}
        self._folder, self._model = folder, model
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._start("bootstrap", "bootstrap")
        self.environment["HOMESWARM_INVITE"] = self.line("bootstrap")

    def peer(self, name: str, blocks: str) -> None:
        """Starts a peer; `line` waits until it serves."""
        options = ["--model", str(self._model), "--blocks", blocks, "--name", name]
        self._start(name, "peer", *options, "--threads", "1", "--kv-memory", "8MB")

    def line(self, name: str) -> str:
        """The next line that a process writes."""
        stdout = self._running[name].stdout
        assert stdout is not None
        line = stdout.readline().strip()
        assert line, f"{name} ended: {(self._folder / f'{name}.log').read_text()[-2000:]}"
        return line

    def kill(self, name: str) -> None:
        """Pulls its plug."""
        process = self._running.pop(name)
        process.kill()
        process.communicate()

    def close(self) -> None:
        """Ends everything."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            process.communicate(timeout=60)

    def _start(self, name: str, *arguments: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [*SWARM, *arguments, "--dir", str(self._folder / name), *HERE],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
            )


@pytest.fixture
def group(tmp_path: Path, model: Path) -> Iterator[Group]:
    """A peer for each half of the model."""
    started = Group(tmp_path, model)
    try:
        for name, blocks in {"one": "0:2", "two": "2:4"}.items():
            started.peer(name, blocks)
        for name in ("one", "two"):
            started.line(name)
        yield started
    finally:
        started.close()


def at_prompt(screen: Any) -> bool:
    """Whether the conversation waits for what comes next."""
    return bool(screen.cursor_line == ">")


@pytest.mark.timeout(400)
def test_talking_and_looking_while_peers_die(
    terminal: Any, group: Group, model: Path, tmp_path: Path
) -> None:
    shown = {"environment": group.environment, "lines": 50}
    log = (tmp_path / "changes.jsonl").open("wb")
    looking = [*SWARM, "status", "--watch", "--every", "0.3"]
    talking = [*SWARM, "chat", "--model", str(model), "--threads", "1", "--max-tokens", "3000"]
    with (
        log,
        terminal(*looking, "--json", stdout=log.fileno(), **shown) as lines,
        terminal(*looking, columns=60, **shown) as board,
        terminal(*talking, **shown) as chat,
    ):
        board.wait("Every block is served", 120)
        assert all(len(line) <= 60 for line in board.text.split("\n"))
        chat.wait(at_prompt, 120)
        chat.enter("/set max_tokens 8")
        chat.enter("hello " * 12)
        chat.wait("cut at the limit", 60)
        chat.wait(at_prompt)
        chat.enter("/route")
        assert re.search(r"two …\w+ *│ 2:4", chat.wait("Bytes that crossed"))

        # The next turn goes on from what the peers have kept.
        chat.enter("and again")
        chat.wait(lambda s: s.text.count("cut at the limit") == 2)
        chat.wait(at_prompt)
        chat.enter("/stats")
        kept = re.search(r"(\d+) of them kept", chat.wait("of them kept"))
        assert kept is not None and int(kept[1]) >= 32

        # Its only peer for these blocks dies, and another one comes: the answer waits, and goes on.
        chat.enter("/set max_tokens 1500")
        chat.enter("a long one")
        chat.wait(lambda s: len(s.text.partition("> a long one")[2].strip()) > 20)
        group.kill("two")
        group.peer("three", "2:4")
        group.line("three")
        chat.wait("the route was mended once", 240)
        chat.wait(at_prompt)
        board.wait("gone", 60)

        group.kill("bootstrap")
        group.kill("three")
        board.wait("Missing blocks 2:4", 60)
        board.wait("swarm peer --join INVITE --model")
        chat.enter("anybody?")
        # Not what was said of the answer before: at the prompt Ctrl-C would not end this one.
        chat.wait(lambda s: "Waiting: no peer" in s.text.partition("> anybody?")[2])
        chat.type("\x03")
        chat.wait("Stopped before a word had come")
        chat.wait(at_prompt)
        chat.type("\x04")
        assert chat.ended() == 0

        board.type("\x03")
        assert board.ended() == 0
        lines.type("\x03")
        assert lines.ended() == 0
    told = [json.loads(line) for line in (tmp_path / "changes.jsonl").read_text().splitlines()]
    assert told[0]["models"][0]["complete"] and not told[0]["changes"]
    kinds = [change["kind"] for each in told for change in each["changes"]]
    assert kinds.count("left") == 2 and "gap" in kinds, kinds
