"""`swarm serve` as a command: what it makes of its arguments, and its keys."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec.structs import replace
from typer.testing import CliRunner

from swarm import cli
from swarm.background import background
from swarm.cli import serve
from swarm.cli._newcomers import Newcomers
from swarm.cli._offers import MOST, Offer, announced, parse
from swarm.directory import Announcement, State
from swarm.errors import ConfigError, NoRouteError
from swarm.overview import Overview


def entry(name: str, model: str = "f" * 32, state: State = State.SERVING) -> Announcement:
    return Announcement(f"12D3Koo{model[:4]}", "garage", model, name, 4, 0, 4, state)


class Group:
    """A swarm of which only the announcements count."""

    def __init__(self, *entries: Announcement) -> None:
        self.entries = entries

    async def announcements(self) -> Any:
        return self.entries


def test_models_are_called_by_no_path_of_this_machine(tmp_path: Path) -> None:
    file, folder = tmp_path / "Small.Q4.gguf", tmp_path / "tuned"
    file.touch()
    folder.mkdir()
    names = [offer.name for offer in parse(["o/n", str(file), f"{folder}/", f"quick={file}"])]
    assert names == ["o/n", "Small.Q4", "tuned", "quick"]
    assert parse(["gpt-4o=owner/name"]) == (Offer("gpt-4o", "owner/name"),)


def test_a_path_may_hold_what_looks_like_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert parse([str(folder)]) == (Offer("a=b", str(folder)),)


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        (["a=x/y", "a=x/z"], "two models are called a"),
        (["x/y", "x/y=x/z"], "two models are called x/y"),
        (["a b=x/y"], "no name for a model"),
        (["=x/y"], "no name for a model"),
        (["a=/no/such/place"], "no such file"),
        (["/no/such/place"], "no such file"),
    ],
)
def test_models_that_cannot_be_served_are_told_at_once(texts: list[str], match: str) -> None:
    with pytest.raises((typer.BadParameter, ConfigError), match=match):
        parse(texts)


@pytest.mark.simulated_time
async def test_without_names_all_models_with_a_repo_id_are_served(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = Group(
        entry("b/two", "b" * 32),
        entry("a/one", "a" * 32),
        entry("a/one", "a" * 32),
        entry("mine.gguf", "c" * 32),
        entry("d/loading", "d" * 32, State.LOADING),
    )
    offers = await announced(group, 5)  # type: ignore[arg-type]
    assert [offer.source for offer in offers] == ["a/one", "b/two"]
    assert "mine.gguf is a file or folder of its peers" in capsys.readouterr().err


@pytest.mark.simulated_time
async def test_a_group_that_serves_only_files_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"serves mine\.gguf.*--model"):
        await announced(Group(entry("mine.gguf")), 5)  # type: ignore[arg-type]


@pytest.mark.simulated_time
async def test_a_group_that_serves_nothing_is_waited_for() -> None:
    with pytest.raises(NoRouteError, match="waited 5 s"):
        await announced(Group(), 5)  # type: ignore[arg-type]


def run(*arguments: str, **environment: str) -> Any:
    runner = CliRunner(env=environment)
    return runner.invoke(cli.build(), ["serve", *arguments])


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    folder = str(tmp_path / "keys")
    made = run("keys", "add", "laptop", "--dir", folder)
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert key.startswith("sk-swarm-")
    listed = run("keys", "list", "--dir", folder)
    assert "laptop" in listed.stdout and key not in listed.stdout
    (told,) = json.loads(run("keys", "list", "--json", "--dir", folder).stdout)
    assert told["name"] == "laptop" and told["created"] > 1e9 and key not in str(told)
    assert run("keys", "revoke", "laptop", "--dir", folder).exit_code == 0
    assert "No key" in run("keys", "list", "--dir", folder).stdout


def test_keys_need_neither_invite_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom swarm.cli import main\n"
        f"sys.argv = ['swarm', 'serve', 'keys', 'add', 'me', '--dir', {str(tmp_path)!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'transformers', 'hivemind'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--join", "hs1x", "--port", "65536"],
        ["--join", "hs1x", "--revision", "main"],
        ["--join", "hs1x", "--model", "a/b", "--model", "c/d", "--draft", "e/f"],
        ["--join", "hs1x", "--model", "a=x/y", "--model", "a=x/z"],
        ["--join", "hs1x", "--most-body", "none"],
        ["keys", "add"],
    ],
)
def test_wrong_arguments(arguments: list[str]) -> None:
    done = run(*arguments, HOMESWARM_INVITE="")
    assert done.exit_code == 2, done.output


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--host", "0.0.0.0"], "needs a key"),
        (["--api-key", "short"], "too easy to guess"),
        (["--tls-cert", "/no/such/file"], "private key"),
        (["--tls-cert", "/no/such/file", "--tls-key", "/no/such/file"], "No such file"),
        (["--cors", "*"], "no origin"),
        (["--audit", "0", "--port", "0"], "invite"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_sentence(
    arguments: list[str], match: str, tmp_path: Path
) -> None:
    done = run("--join", "hs1x", "--dir", str(tmp_path), *arguments, HOMESWARM_API_KEY="")
    assert isinstance(done.exception, ConfigError), done.output
    assert match in str(done.exception)


class Opening(Group):
    """A swarm whose models open, but for some."""

    def __init__(self, broken: str, *entries: Announcement) -> None:
        super().__init__(*entries)
        self.broken = broken
        self.opened: list[str] = []

    async def model(self, source: str, options: object) -> Any:
        if source == self.broken:
            raise ConfigError(f"{source}: no such repo")
        self.opened.append(source)
        return self

    @property
    def checkpoint(self) -> Any:
        return self

    def tokenizer(self) -> None:
        return None

    async def missing(self) -> tuple[tuple[int, int], ...]:
        return ((2, 4),)


async def test_a_model_with_two_names_is_opened_once(capsys: pytest.CaptureFixture[str]) -> None:
    swarm: Any = Opening("")
    offers = (Offer("one", "a/b"), Offer("two", "a/b"))
    options: Any = None
    assert list(await serve._open(swarm, offers, options, 0)) == ["one", "two"]
    assert swarm.opened == ["a/b"]
    assert "Nobody serves blocks 2:4" in capsys.readouterr().err


async def test_of_models_that_were_found_one_that_opens_is_enough(
    capsys: pytest.CaptureFixture[str],
) -> None:
    swarm: Any = Opening("a/one", entry("a/one", "a" * 32), entry("b/two", "b" * 32))
    options: Any = None
    assert list(await serve._open(swarm, (), options, 0)) == ["b/two"]
    assert "Not served: a/one: no such repo" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no such repo"):
        await serve._open(swarm, (Offer("x", "a/one"), Offer("y", "b/two")), options, 0)
    lone: Any = Opening("a/one", entry("a/one"))
    with pytest.raises(ConfigError, match="no such repo"):
        await serve._open(lone, (), options, 0)


class Growing(Opening):
    """A swarm that is seen whole, too."""

    num_seen = 0

    async def overview(self) -> Overview:
        self.num_seen += 1
        if self.num_seen == 1:
            raise NoRouteError((), "the directory does not answer")
        return Overview.of(self.entries)


@pytest.mark.simulated_time
async def test_models_that_come_later_are_served_once_they_are_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    late = entry("d/late", "d" * 32)
    group: Any = Growing(
        "c/broken",
        entry("a/known", "a" * 32),
        entry("b/new", "b" * 32),
        entry("c/broken", "c" * 32),
        replace(late, end=2),
        entry("mine.gguf", "e" * 32),
    )
    added: asyncio.Queue[str] = asyncio.Queue()
    newcomers = Newcomers(group, ["a/known"], lambda name: group.model(name, None))
    async with background() as tasks:
        tasks.create_task(newcomers.run(lambda name, _: added.put_nowait(name)))
        assert await added.get() == "b/new"
        group.entries = (*group.entries, replace(late, peer="12D3KooOther", start=2))
        assert await added.get() == "d/late"
        # What did not open is tried again after a while, and nobody is asked all the time.
        assert capsys.readouterr().err.count("Not served: c/broken: no such repo") == 1
        group.broken = ""
        assert await added.get() == "c/broken"
        assert asyncio.get_running_loop().time() >= 600
    assert group.opened == ["b/new", "d/late", "c/broken"] and added.empty()


@pytest.mark.simulated_time
async def test_models_that_come_later_have_a_most() -> None:
    group: Any = Growing("", *(entry(f"a/m{i:02}", f"{i:02}" * 16) for i in range(MOST + 9)))
    added: list[str] = []
    newcomers = Newcomers(group, ["a/m00"], lambda name: group.model(name, None))
    await newcomers.run(lambda name, _: added.append(name))
    assert added == [f"a/m{i:02}" for i in range(1, MOST)]
