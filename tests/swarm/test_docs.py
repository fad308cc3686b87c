"""What the README and the pages of `docs/` say of files, options and one another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from swarm import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
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
