"""Python, packages, compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from .check import aside
from .finding import Finding, ok, problem, warning
from .machine import Machine

_TOLD = ("transformers", "torch", "hivemind")


@dataclass(frozen=True)
class PythonCheck:
    """Whether the interpreter is one that the package runs on."""

    machine: Machine
    name: str = "Python"
    seconds: float = 10.0

    async def run(self) -> Sequence[Finding]:
        version = ".".join(map(str, self.machine.python()))
        wanted = self.machine.least_python()
        if SpecifierSet(wanted).contains(version):
            return [ok(version)]
        return [
            problem(
                f"{version}; {wanted} is needed",
                "parts of Homeswarm do not run on it.",
                "Install a newer Python, and Homeswarm in it: python3.12 -m venv ENV.",
            )
        ]


@dataclass(frozen=True)
class PackagesCheck:
    """Whether what the package asks for is installed, in versions that it takes."""

    machine: Machine
    name: str = "packages"
    seconds: float = 20.0

    async def run(self) -> Sequence[Finding]:
        wanted = [Requirement(each) for each in self.machine.requirements()]
        wanted = [each for each in wanted if each.marker is None or each.marker.evaluate()]
        found = {each: self.machine.version(each.name) for each in wanted}
        bad = [_complaint(each, version) for each, version in found.items()]
        if lacking := [each for each in bad if each]:
            return [
                problem(
                    "; ".join(lacking),
                    "commands that use them fail, or behave in ways that nobody has tested.",
                    "pip install --upgrade homeswarm",
                )
            ]
        versions = {each.name: version for each, version in found.items()}
        told = [f"{name} {versions[name]}" for name in _TOLD if versions.get(name)]
        return [ok(", ".join([*told, f"{len(found)} packages in all"]))]


def _complaint(wanted: Requirement, version: str | None) -> str:
    if version is None:
        return f"{wanted.name} is not installed"
    if wanted.specifier.contains(version, prereleases=True):
        return ""
    return f"{wanted.name} is {version}, {wanted.specifier} is needed"


@dataclass(frozen=True)
class KernelsCheck:
    """Whether our compiled code is there."""

    machine: Machine
    name: str = "compiled kernels"
    seconds: float = 60.0

    async def run(self) -> Sequence[Finding]:
        if await aside(self.machine.has_kernels):
            return [ok("built, and they load")]
        compiler = self.machine.compiler()
        again = "pip install --force-reinstall --no-deps --no-cache-dir homeswarm"
        first = "" if compiler else "Install a C compiler (Debian: apt install gcc), then run: "
        return [
            warning(
                f"not there; C compiler: {compiler or 'none'}",
                "on a CPU, tokens take up to twice as long. A GPU does not need them.",
                first + again,
            )
        ]
