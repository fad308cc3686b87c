"""The wheel, installed in a folder of somebody who has files named like our parts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CHECK = """
import client, peer, bootstrap
assert client.MINE and peer.MINE and bootstrap.MINE
import swarm.client, swarm.peer.scheduler, swarm.bootstrap.config, swarm.wire.messages
from pathlib import Path
for module in (swarm, swarm.client, swarm.peer.scheduler, swarm.bootstrap.config):
    assert "site" in Path(module.__file__).parts, module.__file__
assert (Path(swarm.__file__).parent / "py.typed").exists()
assert swarm.client.Swarm.__module__ == "swarm.client.swarm"
print("fine")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel unpacked in it, as pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignore)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = [*pip, "wheel", "--no-deps", "--quiet", "--wheel-dir", str(folder), str(source)]
    subprocess.run(built, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    installed = [*pip, "install", "--no-deps", "--quiet", "--target", str(target), str(wheel)]
    subprocess.run(installed, check=True, timeout=100)
    return target


def test_nothing_is_shadowed(site: Path, tmp_path: Path):
    for name in ("client.py", "peer.py", "bootstrap.py"):
        (tmp_path / name).write_text("MINE = True\n")
    code = f"import sys\nsys.path.insert(1, {str(site)!r})\n{CHECK}"
    (tmp_path / "check.py").write_text(code)
    # -S would hide the dependencies; our own editable install must not be what is found.
    done = subprocess.run(
        [sys.executable, "check.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "fine"


def test_the_wheel_holds_every_module(site: Path):
    folders = {"swarm": "swarm", "peer": "swarm/peer", "client": "swarm/client"}
    folders["bootstrap"] = "swarm/bootstrap"
    for folder, target in folders.items():
        for path in (ROOT / folder).rglob("*.py"):
            assert (site / target / path.relative_to(ROOT / folder)).exists(), path
    assert not (site / "peer").exists() and not (site / "tests").exists()
