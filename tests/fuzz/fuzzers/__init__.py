"""The fuzzers, one per kind of bytes that come from outside; each module here has a `FUZZER`."""

from __future__ import annotations

from importlib import import_module

from .fuzzer import Fuzzer, together

GROUPS: dict[str, tuple[str, ...]] = {
    "peer": ("peer",),
    "desk": ("desk",),
    "frames": ("frames",),
    "messages": ("messages",),
    "tensors": ("tensors",),
    "sealed": ("sealed",),
    "membership": ("membership", "invites"),
    "files": ("files",),
    "directory": ("directory",),
    "addresses": ("addresses",),
    "safetensors": ("safetensors", "weights"),
    "gguf": ("gguf",),
    "config": ("config",),
    "hub": ("hub",),
    "grammar": ("grammar",),
    "requests": ("requests",),
    "keys": ("keys",),
    "calls": ("calls",),
    "fallback": ("fallback",),
}
"""The modules of each fuzzer that `make fuzz` runs."""

NAMES = tuple(GROUPS)


def module(name: str) -> Fuzzer:
    """The fuzzer of one module; imports what it reads, some of which takes seconds."""
    found: Fuzzer = import_module(f"{__name__}.{name}").FUZZER
    return found


def load(name: str) -> Fuzzer:
    """The fuzzer of this name."""
    parts = {part: module(part) for part in GROUPS[name]}
    return next(iter(parts.values())) if len(parts) == 1 else together(**parts)
