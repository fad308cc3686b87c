"""Fetches the page's libraries from the npm registry, as they are pinned here, and checks them.

    python tools/vendor.py           writes what is missing below swarm/web/static/vendor/
    python tools/vendor.py --check   only compares what is there with the pins, offline

The packages come through `npm pack`: from the registry that npm is configured for, without running
any of their scripts. To take a newer version, change its pin; a wrong digest is shown with the
right one.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "swarm" / "web" / "static" / "vendor"
TESTS = ROOT / "tests" / "page" / "vendor"


@dataclass(frozen=True)
class File:
    """One file of a package: where it is in there, how it is called here, and its SHA-256."""

    path: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Package:
    """A package of the registry, and which of its files go where."""

    name: str
    version: str
    licence: str
    what: str
    files: tuple[File, ...]
    folder: Path = PAGE


PACKAGES = (
    Package(
        "htm",
        "3.1.1",
        "Apache-2.0 (htm), MIT (preact, which it contains)",
        "components without a build step: preact 10, its hooks, and htm in one module",
        (
            File(
                "preact/standalone.module.js",
                "preact.js",
                "72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7",
            ),
            File(
                "LICENSE",
                "htm.LICENSE.txt",
                "740725f7252e750af735d0028cc534970772f513331e9f68150fede8fb3ce00f",
            ),
        ),
    ),
    Package(
        "preact",
        "11.2.0",
        "MIT",
        "only the licence of what htm contains",
        (
            File(
                "LICENSE",
                "preact.LICENSE.txt",
                "1fe6958409c8c257a70c587a18b6f7f412b179b456630790d30b2ec9a8e4b7d4",
            ),
        ),
    ),
    Package(
        "markdown-it",
        "15.0.3",
        "MIT",
        "CommonMark and tables to HTML",
        (
            File(
                "dist/browser/markdown-it.esm.min.mjs",
                "markdown-it.js",
                "d5432491790141da046b1197353705db03264f40b5727f3b4b591f5aba193e30",
            ),
            File(
                "LICENSE",
                "markdown-it.LICENSE.txt",
                "792c48c5a849a15fdf9e37e8bcf9e6d1dd13b32b46c642a748a0a46a9919d473",
            ),
        ),
    ),
    Package(
        "dompurify",
        "3.4.18",
        "Apache-2.0 or MPL-2.0",
        "takes everything out of HTML that is not on a list",
        (
            File(
                "dist/purify.min.js",
                "purify.js",
                "8053ee2a6a09f9d50f7fcd6fb7f07072f52c7f3fa9aa12147cab4feaf65ee970",
            ),
            File(
                "LICENSE",
                "purify.LICENSE.txt",
                "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
            ),
        ),
    ),
    Package(
        "@highlightjs/cdn-assets",
        "11.12.0",
        "BSD-3-Clause",
        "colours code, in the languages that are most common",
        (
            File(
                "es/highlight.min.js",
                "highlight.js",
                "1ed8fc5256b738b8875b74e4d3f0754f60d6411fb034d618dfbc4e6e6c9999d7",
            ),
            File(
                "LICENSE",
                "highlight.LICENSE.txt",
                "6c081431591d9df696c82dc598fe1423765b8a299b200ed00b281afd0f64c490",
            ),
        ),
    ),
    Package(
        "axe-core",
        "4.14.1",
        "MPL-2.0",
        "looks for barriers; tests only, never served",
        (
            File(
                "axe.min.js",
                "axe.js",
                "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c",
            ),
            File(
                "LICENSE",
                "axe.LICENSE.txt",
                "af175b9d96ee93c21a036152e1b905b0b95304d4ae8c2c921c7609100ba8df7e",
            ),
        ),
        TESTS,
    ),
)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("--check", action="store_true", help="fetch nothing")
    check = parser.parse_args().check
    wrong = [] if check else [line for package in PACKAGES for line in fetched(package)]
    wrong = wrong or list(differences())
    if not check and not wrong:
        for folder in (PAGE, TESTS):
            (folder / "README.md").write_text(readme(folder))
    said = "\n".join(wrong) or f"{sum(len(each.files) for each in PACKAGES)} files as pinned"
    sys.stdout.write(f"{said}\n")
    return 1 if wrong else 0


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the module's docstring."""


def fetched(package: Package) -> Iterator[str]:
    """Writes a package's files, unless they are there; yields what is wrong with them."""
    if not [file for file in package.files if digest(package.folder / file.name) != file.sha256]:
        return
    package.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder]
        subprocess.run([*command, f"{package.name}@{package.version}"], check=True, text=True)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as tar:
            for file in package.files:
                member = tar.extractfile(f"package/{file.path}")
                assert member is not None, file.path
                content = member.read()
                if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
                    yield f"{package.name} {file.path}: {found} is not {file.sha256}"
                else:
                    (package.folder / file.name).write_bytes(content)


def differences() -> Iterator[str]:
    """What is not as pinned: missing, changed, or not ours to ship."""
    for folder in (PAGE, TESTS):
        pinned = {
            file.name: file for each in PACKAGES if each.folder == folder for file in each.files
        }
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for name in sorted(pinned.keys() | there - {"README.md"}):
            found = digest(folder / name)
            if name not in pinned:
                yield f"{name}: nobody has pinned it"
            elif found != pinned[name].sha256:
                yield f"{name}: {found or 'missing'}, pinned is {pinned[name].sha256}"


def digest(path: Path) -> str | None:
    """SHA-256 in hex, None where there is no such file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def readme(folder: Path) -> str:
    """What stands beside the files."""
    lines = [
        "# Libraries of others",
        "",
        "Unchanged from the npm registry. `python tools/vendor.py` fetches and verifies them; the",
        "pins are there, and this page is written by it.",
        "",
        "| package | version | licence | what for |",
        "|---|---|---|---|",
    ]
    packages = [package for package in PACKAGES if package.folder == folder]
    lines += [f"| {p.name} | {p.version} | {p.licence} | {p.what} |" for p in packages]
    lines += ["", "| file | from | bytes | SHA-256 |", "|---|---|---|---|"]
    for package in packages:
        for file in package.files:
            size = (folder / file.name).stat().st_size
            lines.append(f"| {file.name} | {package.name}/{file.path} | {size} | `{file.sha256}` |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
