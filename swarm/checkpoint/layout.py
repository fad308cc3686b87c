"""Which tensors of a checkpoint are blocks of the text model, and what that model calls them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swarm.errors import ConfigError

_BLOCK = re.compile(r"^(?P<stem>(?:.*?\.)?(?:layers|h|blocks))\.(?P<index>\d+)\.(?P<rest>.+)$")
_TEXT_PART = ("language_model", "text_model", "text_decoder", "thinker", "llm")
_HEADS = ("lm_head", "embed_out")
_OTHER_SENSES = re.compile(
    r"(^|[._])(vision|visual|image|video|audio|speech|talker|projector|connector|aligner"
    r"|perceiver|mm|vit)([._]|$)"
)


@dataclass(frozen=True)
class Layout:
    """The stored tensor names of each block and of the client's part.

    `text_names` gives, for each of them, the name that a checkpoint of the text model alone has:
    a multi-modal checkpoint keeps it under a prefix such as `model.language_model.`.
    """

    blocks: tuple[tuple[str, ...], ...]
    ends: tuple[str, ...]
    text_names: Mapping[str, str]


def make_layout(names: Iterable[str], num_blocks: int, *, nested: bool, where: str) -> Layout:
    """Sort a checkpoint's tensor `names`.

    `nested` says that the text model is one part of a larger one. Left out of both parts: other
    senses' towers, and blocks past the last (`num_blocks` and up: multi-token-prediction extras,
    which transformers does not run either). Raises `ConfigError` naming `where`.
    """
    names = sorted(names)
    stem = _block_stem(names, num_blocks, where)
    root, inside = _text_root(stem) if nested else ("", "")
    blocks: list[list[str]] = [[] for _ in range(num_blocks)]
    text_names: dict[str, str] = {}
    ends: list[str] = []
    for name in names:
        match = _BLOCK.match(name)
        if match and match["stem"] == stem:
            index = int(match["index"])
            if index < num_blocks:
                blocks[index].append(name)
                text_names[name] = inside + name.removeprefix(root)
        elif (text_name := _end_name(name, root, inside, nested=nested)) is not None:
            ends.append(name)
            text_names[name] = text_name
    return Layout(tuple(map(tuple, blocks)), tuple(ends), text_names)


def block_index(name: str) -> int | None:
    """Which block a text model's tensor belongs to, if any."""
    match = _BLOCK.match(name)
    return int(match["index"]) if match else None


def renumbered(name: str, start: int) -> str:
    """A block tensor's name with `start` taken off its index: a span's blocks count from 0."""
    match = _BLOCK.match(name)
    assert match, f"{name} is not a block's tensor"
    return f"{match['stem']}.{int(match['index']) - start}.{match['rest']}"


def _block_stem(names: Iterable[str], num_blocks: int, where: str) -> str:
    indices: dict[str, set[int]] = defaultdict(set)
    for name in names:
        if match := _BLOCK.match(name):
            indices[match["stem"]].add(int(match["index"]))
    wanted = set(range(num_blocks))
    stems = [stem for stem, found in indices.items() if wanted <= found]
    if not stems:
        seen = ", ".join(f"{stem} ({len(found)})" for stem, found in sorted(indices.items()))
        raise ConfigError(
            f"{where}: no run of {num_blocks} blocks among its tensors, which its config promises; "
            f"found {seen or 'none'}"
        )

    def preference(stem: str) -> tuple[bool, bool, int]:
        return (bool(_OTHER_SENSES.search(stem)), indices[stem] != wanted, len(stem))

    return min(stems, key=preference)


def _text_root(stem: str) -> tuple[str, str]:
    """The prefix that the text model lies under, and what has to stand there instead."""
    parts = stem.split(".")[:-1]
    marks = [at for at, part in enumerate(parts) if part in _TEXT_PART]
    if not marks:
        return "", ""
    root = parts[: marks[-1] + 1]
    # `model.language_model.layers` is the text model's own `model.layers`.
    return ".".join(root) + ".", "model." if len(root) == len(parts) else ""


def _end_name(name: str, root: str, inside: str, *, nested: bool) -> str | None:
    first = name.split(".", 1)[0]
    if first == "mtp":
        return None
    if not nested or first in _HEADS:
        return name
    if not name.startswith(root) or _OTHER_SENSES.search(name):
        return None
    rest = name.removeprefix(root)
    return rest if rest.split(".", 1)[0] in _HEADS else inside + rest
