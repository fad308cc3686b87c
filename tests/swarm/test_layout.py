"""The arrows between the parts, and what a command may import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = {"swarm": ROOT / "swarm", "peer": ROOT / "peer", "client": ROOT / "client"}
PARTS |= {"bootstrap": ROOT / "bootstrap", "gateway": ROOT / "gateway"}
FOREIGN = {"hivemind": {"swarm/transport/light_hivemind.py"}}


def _part_of(module: str) -> str:
    second = module.split(".")[1:2]
    return second[0] if second and second[0] in PARTS else "swarm"


def _imports(path: Path) -> set[str]:
    """Absolute names of what a file imports from our own parts, wherever in the file it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _arrows() -> dict[tuple[str, str], set[str]]:
    arrows: dict[tuple[str, str], set[str]] = {}
    for part, folder in PARTS.items():
        for path in folder.rglob("*.py"):
            for name in _imports(path):
                if name == "swarm" or name.startswith("swarm."):
                    where = str(path.relative_to(ROOT))
                    arrows.setdefault((part, _part_of(name)), set()).add(where)
    return arrows


def test_parts_import_swarm_and_never_each_other():
    arrows = _arrows()
    assert ("peer", "swarm") in arrows and ("client", "swarm") in arrows, "the walk found nothing"
    for (source, target), places in arrows.items():
        if source == target or target == "swarm" or (source, target) == ("gateway", "client"):
            continue
        assert source == "swarm", f"{places} import swarm.{target}"
        outside = {place for place in places if not place.startswith("swarm/cli/")}
        assert not outside, f"{outside} import swarm.{target}; only the command line may"


def test_the_gateway_uses_what_a_user_of_the_client_uses():
    """Only names that `swarm.client` lists: it is one more program that asks."""
    for path in PARTS["gateway"].rglob("*.py"):
        modules = {name for name in _imports(path) if name.startswith("swarm.client.")}
        assert not {name for name in modules if name.removeprefix("swarm.client.").islower()}, path


def test_relative_imports_stay_in_their_part():
    for part, folder in PARTS.items():
        for path in folder.rglob("*.py"):
            depth = len(path.relative_to(folder).parts)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom):
                    assert node.level <= depth, f"{path}: leaves {part} with {'.' * node.level}"


@pytest.mark.parametrize("package", FOREIGN)
def test_a_foreign_library_is_known_in_one_place(package):
    for folder in PARTS.values():
        for path in folder.rglob("*.py"):
            uses = {n for n in _imports(path) if n == package or n.startswith(f"{package}.")}
            assert not uses or str(path.relative_to(ROOT)) in FOREIGN[package], f"{path}: {uses}"


def test_hivemind_is_named_behind_the_two_seams_only():
    """It is loaded by name, which no import shows."""
    for part, folder in PARTS.items():
        for path in folder.rglob("*.py"):
            named = any(
                isinstance(node, ast.Constant) and str(node.value).startswith("hivemind.")
                for node in ast.walk(ast.parse(path.read_text()))
            )
            inside = path.relative_to(folder).parts[0] in ("transport", "directory")
            assert not named or (part == "swarm" and inside), path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *(
            [command, "--help"]
            for command in ("bootstrap", "peer", "run", "chat", "status", "serve", "doctor", "fit")
        ),
    ],
)
def test_help_needs_no_torch(arguments):
    code = (
        "import sys\nfrom swarm.cli import main\n"
        f"sys.argv = ['swarm', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'transformers', 'hivemind'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
