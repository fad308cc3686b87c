"""Which model a peer should serve that was told none: the one that the group needs most."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.directory import Announcement
from swarm.errors import ConfigError
from swarm.overview.gap import replication

if TYPE_CHECKING:
    from swarm.directory import Directory

_REPO_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""Others name what we would download: a repository it must be, no path of this machine."""

_PATIENCE = 30.0
_LOOK = 2.0


@dataclass(frozen=True)
class Needed:
    """A model by repo id and fingerprint, and why it is the one."""

    model: str
    fingerprint: str
    why: str


def most_needed(entries: Sequence[Announcement]) -> Needed | None:
    """The model whose weakest block is weakest, of those that anybody can download.

    Of equals the one that more peers serve. None if there is no such model.
    """
    models: defaultdict[tuple[str, str], list[Announcement]] = defaultdict(list)
    for entry in entries:
        if entry.serving and _REPO_ID.fullmatch(entry.model_name):
            models[entry.model, entry.model_name].append(entry)
    ranked = []
    for (fingerprint, name), peers in models.items():
        runs = replication(peers, peers[0].num_blocks)
        gaps = sum(end - start for start, end, number in runs if not number)
        weakest = min(number for _, _, number in runs)
        ranked.append((weakest, -len(peers), name, fingerprint, gaps))
    if not ranked:
        return None
    weakest, _, name, fingerprint, gaps = min(ranked)
    why = f"{gaps} of its blocks are served by nobody"
    if not gaps:
        why = f"some of its blocks are served by {weakest} peer{'s' * (weakest > 1)} only"
    return Needed(name, fingerprint, why)


async def look(directory: Directory) -> Needed:
    """Looks until a model is served; raises `ConfigError` if none is within half a minute."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE
    while True:
        found = await directory.find()
        if (needed := most_needed(found)) is not None:
            return needed
        if loop.time() >= deadline:
            local = sorted({entry.model_name for entry in found if entry.serving})
            also = f" (only {', '.join(local[:3])}, which is nobody's to download)" if local else ""
            raise ConfigError(f"no model is served in this group yet{also}: say one with --model")
        await asyncio.sleep(_LOOK)
