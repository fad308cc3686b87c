"""What the README and the pages of `docs/` say of files, options and one another."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from swarm import cli

ROOT = Path(__file__).resolve().parents[2]
TOP = [ROOT / name for name in ("README.md", "README.es.md", "CHANGELOG.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
PARTS = ("swarm", "peer", "client", "bootstrap", "gateway")
OTHERS = ("tests", "benchmarks")
COMMANDS = typer.main.get_command(cli.build()).commands  # type: ignore[attr-defined]


def files(*folders: str) -> set[str]:
    """Names of the files with code below these."""
    return {path.name for folder in folders for path in (ROOT / folder).rglob("*.py")}


def test_the_architecture_names_every_module() -> None:
    named = set(re.findall(r"\w+\.py\b", (ROOT / "docs" / "architecture.md").read_text()))
    modules = files(*PARTS) - {"__init__.py"}
    assert len(modules) > 100, "the walk found nothing"
    assert not modules - named, "say in docs/architecture.md what these do"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    paths = re.findall(rf"`((?:{'|'.join((*PARTS, *OTHERS))})/[\w/.]+\.py)`", text)
    assert not [path for path in paths if not (ROOT / path).is_file()]
    assert not set(re.findall(r"`(\w+\.py)`", text)) - files(*PARTS, *OTHERS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        other = (page.parent / target).resolve() if target else page
        assert other.exists(), target
        if anchor:
            assert anchor in anchors(other), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_exist(page: Path) -> None:
    for call in page.read_text().split("swarm ")[1:]:
        command, rest = re.fullmatch(r"([a-z]*)(.*)", call, re.DOTALL).groups()  # type: ignore[union-attr]
        if command in COMMANDS:
            # As far as the command goes: it may go over the end of a line.
            for option in re.findall(r"(?<!\S)--[a-z][a-z-]+", re.split(r"[`|#]|\n\n", rest)[0]):
                assert option in options(command), f"swarm {command} {option}"


def options(command: str) -> set[str]:
    return {
        name
        for parameter in COMMANDS[command].params
        for name in (*parameter.opts, *parameter.secondary_opts, "--help")
    }


def test_the_spanish_readme_says_and_types_the_same() -> None:
    english, spanish = ((ROOT / name).read_text() for name in ("README.md", "README.es.md"))
    for what in (
        r"^```.*?^```$",  # what is typed
        r"^#+(?= )",  # sections, by depth
        r"\]\(((?!README|docs/pictures)[^)\s]+)\)",  # where links lead, in this order
        r"^- \*\*",
        r"`swarm [^`]*`|`make [^`]*`|`--[^`]*`",
    ):
        found = [re.findall(what, text, re.MULTILINE | re.DOTALL) for text in (english, spanish)]
        assert found[0] == found[1], what
    assert "README.es.md" in english and "README.md" in spanish


@pytest.mark.parametrize(
    "page", ["README.md", "docs/contribute.md", "docs/ask.md", "docs/containers.md"]
)
def test_what_the_stories_type_is_understood(page: str) -> None:
    """Each command of ours is parsed as the command line does, and nothing is run."""
    typed = [
        line.split(" #")[0]
        for block in re.findall(r"^```sh.*?\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    calls = [shlex.split(line[line.index("swarm ") :])[1:] for line in typed if is_ours(line)]
    assert calls
    for name, *words in calls:
        command = COMMANDS[name]
        if words and words[0] in getattr(command, "commands", {}):
            command, words = command.commands[words[0]], words[1:]
        elif "--uninstall-service" not in words and needs_invite(command):
            words = ["--join", "hs1x", *words]
        command.make_context(name, words)


def is_ours(line: str) -> bool:
    return re.match(r"(docker compose exec \w+ )?swarm ", line) is not None


def needs_invite(command: Any) -> bool:
    return any(each.name == "join" and each.required for each in command.params)


def test_what_makefiles_are_asked_for_exists() -> None:
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            asked = re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)
            assert set(asked) <= goals, page.name
