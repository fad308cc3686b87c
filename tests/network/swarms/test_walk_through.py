"""docs/group.md, followed to the letter by people on an internet of namespaces.

Every block of commands on that page says whose it is: `sh anna` is typed into a shell on Anna's
machine, `sh anna-peer` into another one there, and what `stays` goes on running in its shell.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.quiet import quiet

PAGE = Path(__file__).parents[3] / "docs" / "group.md"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""What the page names. There is no hub on this internet: everybody has a copy on disk."""

BLOCK = re.compile(r"^```sh (\S+)( stays)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLOW = 60.0
COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,"

ASK_SLOWLY = """
import asyncio, json, sys
from swarm.client import ModelOptions, SamplingConfig, Swarm

async def ask(invite, name, prompt, path):
    async with Swarm.join(invite) as swarm:
        model = await swarm.model(name, ModelOptions(dtype="float32"))
        reply = await model.prepare(prompt, raw=True)
        sampling = SamplingConfig(max_new_tokens=4000, ignore_eos=True)
        with open(path, "w", buffering=1) as file:
            async for _ in model.reply(reply, sampling):
                route = [hop.peer for hop in reply.route]
                told = {"prompt_ids": reply.prompt_ids, "ids": reply.ids, "route": route}
                file.write(json.dumps(told) + "\\n")
                await asyncio.sleep(0.2)

asyncio.run(ask(*sys.argv[1:]))
"""
"""A reply that takes minutes; what is known of it goes to a file, as it comes."""


@dataclass
class Done:
    """A block that has run: its last command's exit code, and what all have written."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on standard output."""
        (line,) = self.out.splitlines()
        return line


@dataclass
class Shell:
    """A terminal on somebody's machine, in which a shell runs."""

    host: Any
    _numbers: Any = field(default_factory=count)
    _mark: str = ""

    def __post_init__(self) -> None:
        home = self.host.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        self._bash = self.host.popen(["bash", "--norc"])
        path = f"{self.host.folder.parent}:{os.environ['PATH']}"
        self._bash.say(f"export HOME={shlex.quote(str(home))} PATH={shlex.quote(path)}; cd")
        self._heard = 0

    def type(self, commands: str, *pasted: str) -> None:
        """Types commands, and what they ask for; says a word of our own after them."""
        self._mark = f"-- {next(self._numbers)} ended with"
        self._heard = self._bash.log.stat().st_size
        for line in (*commands.rstrip("\n").splitlines(), *pasted):
            self._bash.say(line)
        self._bash.say(f'echo "{self._mark} $?"')

    def line(self) -> str:
        """The next line that the command says, which goes on."""
        line = self._bash.line(SLOW)
        assert not line.startswith(self._mark), f"{line}\n{self.complaints}"
        return line

    def done(self, timeout: float = SLOW) -> Done:
        """Waits until the commands have ended."""
        lines: list[str] = []
        deadline = time.monotonic() + timeout
        while not (line := self._bash.line(deadline - time.monotonic())).startswith(self._mark):
            lines.append(line)
        return Done(int(line.split()[-1]), "\n".join(lines), self.complaints)

    @property
    def complaints(self) -> str:
        """What has been written to standard error since the commands were typed."""
        with self._bash.log.open("rb") as log:
            log.seek(self._heard)
            return log.read().decode(errors="replace")

    def ctrl_c(self) -> Done:
        """Ctrl-C, and what the command still says."""
        os.killpg(self._bash.pid, signal.SIGINT)
        return self.done()

    def close(self) -> None:
        """Kills whatever runs here."""
        with suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)


class Page:
    """The page's blocks in their order, each typed on the machine that it names."""

    def __init__(self, model: Path, hosts: dict[str, Any]) -> None:
        self._blocks = list(BLOCK.finditer(PAGE.read_text()))
        self._model, self._hosts = model, hosts
        self._shells: dict[str, Shell] = {}
        self._opened: list[Shell] = []
        self._staying: set[str] = set()

    def next(self, who: str, *words: str, pasted: tuple[str, ...] = ()) -> Shell:
        """Types the next block, which must be `who`'s, contain these words, and not stay."""
        return self._type(who, words, "", pasted)

    def run(self, who: str, *words: str, pasted: tuple[str, ...] = ()) -> Done:
        """Types the next block as `next` does and waits until it has ended well."""
        done = self.next(who, *words, pasted=pasted).done()
        assert done.code == 0, done.err
        return done

    def start(self, who: str, *words: str) -> Shell:
        """Types the next block, which must be `who`'s and stay."""
        return self._type(who, words, " stays", ())

    def shell(self, who: str) -> Shell:
        """That person's terminal; a new one if what runs in the old one stays."""
        if who in self._staying or who not in self._shells:
            self._staying.discard(who)
            self._shells[who] = Shell(self._hosts[who.partition("-")[0]])
            self._opened.append(self._shells[who])
        return self._shells[who]

    def close(self) -> None:
        """Closes all terminals."""
        for shell in self._opened:
            shell.close()

    @property
    def num_left(self) -> int:
        """Blocks that nobody has typed."""
        return len(self._blocks)

    def _type(self, who: str, words: tuple[str, ...], stays: str, pasted: tuple[str, ...]) -> Shell:
        block = self._blocks.pop(0)
        owner, staying, commands = block.group(1), block.group(2) or "", block.group(3)
        assert (owner, staying) == (who, stays), block.group(0)
        assert all(word in commands for word in words), (words, commands)
        shell = self.shell(who)
        shell.type(commands.replace(MODEL, shlex.quote(str(self._model))), *pasted)
        if staying:
            self._staying.add(who)
        return shell


@dataclass
class Tiny:
    """A model of two blocks with random weights, which speaks the demonstration model's tokens."""

    folder: Path
    reference: Any

    def greedy(self, prompt_ids: list[int], count: int) -> list[int]:
        """What plain transformers answers."""
        prompt = torch.tensor([prompt_ids])
        whole = {"max_new_tokens": count, "do_sample": False, "pad_token_id": 0}
        mask = torch.ones_like(prompt)
        out = self.reference.generate(prompt, attention_mask=mask, eos_token_id=None, **whole)
        return [int(token) for token in out[0, len(prompt_ids) :]]


@pytest.fixture(scope="module")
def tiny(model_file, tmp_path_factory) -> Tiny:
    """Everybody has it on disk, and it is there at once."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    with open_checkpoint(str(model_file)) as checkpoint, quiet():
        checkpoint.tokenizer().save_pretrained(folder)
        config = copy.deepcopy(checkpoint.config)
        config.update({"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2})
        config.update({"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16})
        torch.manual_seed(1)
        reference = AutoModelForCausalLM.from_config(config).eval()
        reference.save_pretrained(folder)
    return Tiny(folder, reference)


@pytest.fixture
def page(internet, tiny, tmp_path):
    """The page, before anything was typed: Anna and Dora can be reached, Ben and Carol cannot."""
    command = tmp_path / "swarm"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m swarm.cli "$@"\n')
    command.chmod(0o755)
    hosts = {name: internet.host(name) for name in ("anna", "dora")}
    hosts |= {name: internet.home(name).host("pc") for name in ("ben", "carol")}
    page = Page(tiny.folder, hosts)
    yield page, hosts
    page.close()


def members(shell: Shell, folder: str = "~/our-group") -> dict[str, dict[str, Any]]:
    """What `swarm members` knows, by name."""
    shell.type(f"swarm members --dir {folder} --json")
    done = shell.done()
    assert done.code == 0, done.err
    return {each["name"]: each for each in json.loads(done.out)["members"]}


class Asking:
    """A reply on somebody's machine that takes minutes."""

    def __init__(self, host: Any, invite: str, model: Path) -> None:
        self._path = host.folder / "told.jsonl"
        arguments = [invite, str(model), COUNTING, str(self._path)]
        self._program = host.popen([sys.executable, "-c", ASK_SLOWLY, *arguments])

    @property
    def told(self) -> dict[str, Any]:
        """What is known now: `prompt_ids`, `ids`, `route`."""
        text = self._path.read_text() if self._path.exists() else ""
        lines = text.splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        known: dict[str, Any] = json.loads(whole[-1]) if whole else {"ids": [], "route": []}
        return known

    def goes_on(self, num_tokens: int, beside: str | None = None) -> dict[str, Any]:
        """Waits for so many more tokens, by a route without the peer `beside`."""
        enough = len(self.told["ids"]) + num_tokens
        deadline = time.monotonic() + SLOW
        while len((told := self.told)["ids"]) < enough or beside in told["route"]:
            assert time.monotonic() < deadline, self._program.complaints
            time.sleep(0.1)
        return told

    def end(self) -> str:
        """Why it ends."""
        assert self._program.wait(SLOW)
        return str(self._program.complaints)


@pytest.mark.timeout(900)
def test_the_page_is_true(page, tiny):
    page, hosts = page
    # 1, 2: the group is open, and two are invited.
    founding = page.start("anna", "swarm bootstrap")
    assert founding.line().startswith("hs1")
    bens = page.run("anna", "--role peer", "--name garage-pc").line
    carols = page.run("anna", "--role client", "--name carols-laptop").line
    assert 'as "carols-laptop"' in page.shell("anna").complaints

    # 3: a PC to which no way leads serves the whole model.
    page.run("ben", "read -rs", pasted=(bens,))
    garage = page.start("ben", "swarm peer")
    serving = garage.line()
    assert serving.startswith("serving blocks 0:2 of 2")
    garage_id = serving.split()[-1]

    # 4: Carol asks it.
    page.run("carol", "read -rs", pasted=(carols,))
    assert page.run("carol", "swarm run").out.strip()
    status = page.run("carol", "swarm status").out
    assert "garage-pc" in status and "relayed" in status
    assert "carols-laptop" in status and "Every block is served" in status

    # 5: Anna sees both, and contributes a machine, too.
    table = page.run("anna", "swarm members").out
    assert "garage-pc" in table and "carols-laptop" in table
    asking = Asking(hosts["carol"], carols, tiny.folder)
    assert asking.goes_on(4)["route"] == [garage_id]
    page.run("anna-peer", "swarm invite")
    assert page.start("anna-peer", "swarm peer").line().startswith("serving blocks 0:2 of 2")

    # 6: Ben's PC is thrown out, and what it was answering goes on at Anna's.
    revoked = time.monotonic()
    assert "garage-pc is removed" in page.run("anna", "swarm revoke garage-pc").out
    told = asking.goes_on(4, beside=garage_id)
    ended = garage.done()
    took = time.monotonic() - revoked
    assert ended.code == 1 and "garage-pc was removed from the group" in ended.err, ended
    assert "Traceback" not in ended.err
    assert took < SLOW / 2
    assert told["ids"] == tiny.greedy(told["prompt_ids"], len(told["ids"]))
    assert members(page.shell("anna"))["garage-pc"]["state"] == "revoked"

    # 7: a second bootstrap.
    doras = page.run("anna", "--role authority").line
    page.run("dora", "read -rs", pasted=(doras,))
    second = page.start("dora", "swarm bootstrap", "--join")
    assert second.line().startswith("hs1")

    # 8: without the first one, Carol asks as before; then her laptop is stolen.
    assert "carols-laptop" in members(page.shell("dora-2"))
    seen, deadline = page.run("carol", "swarm status").out, time.monotonic() + SLOW
    while "annas-pc" not in seen:
        # The new bootstrap's node is asked, too, and hears of those who serve within seconds.
        assert time.monotonic() < deadline, seen
        page.shell("carol").type("swarm status")
        seen = page.shell("carol").done().out
    assert founding.ctrl_c().code == 0
    assert page.run("carol", "swarm run").out.strip()
    asking.goes_on(1)
    revoked = time.monotonic()
    assert "carols-laptop is removed" in page.run("dora-2", "swarm revoke carols-laptop").out
    assert "removed from the group" in asking.end()
    assert time.monotonic() - revoked < SLOW / 2
    refused = page.next("carol", "swarm run").done()
    assert refused.code == 1 and not refused.out
    assert "removed from the group" in refused.err and "Traceback" not in refused.err

    # Losing things: the folder comes back from its copy, and hears what has happened meanwhile.
    page.run("anna", "tar -czf")
    page.shell("anna").type("rm -r ~/our-group")
    assert page.shell("anna").done().code == 0
    page.run("anna", "tar -xzf")
    assert not page.num_left
    again = page.shell("anna-again")
    again.type("swarm bootstrap --dir ~/our-group --port 7700")
    assert again.line().startswith("hs1")
    deadline = time.monotonic() + SLOW
    while members(page.shell("anna"))["carols-laptop"]["state"] != "revoked":
        assert time.monotonic() < deadline, again.complaints
