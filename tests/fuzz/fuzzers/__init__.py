"""The fuzzers, one per kind of bytes that come from outside."""

from __future__ import annotations

from importlib import import_module

from .fuzzer import Fuzzer

NAMES = (
    "frames",
    "peer",
    "messages",
    "tensors",
    "sealed",
    "membership",
    "invites",
    "files",
    "directory",
    "addresses",
    "safetensors",
    "gguf",
    "weights",
    "config",
    "hub",
)


def load(name: str) -> Fuzzer:
    """The fuzzer of this name; imports what it reads, some of which takes seconds."""
    found: Fuzzer = import_module(f"{__name__}.{name}").FUZZER
    return found
