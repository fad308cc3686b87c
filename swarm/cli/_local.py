"""A swarm that a command starts on this machine for itself: a bootstrap, and peers in parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ._processes import Process, Processes

if TYPE_CHECKING:
    from swarm.member import JoinConfig

HOST = "127.0.0.1"
"""Such a swarm listens on loopback alone."""


def parts(num_blocks: int, num_parts: int) -> list[tuple[int, int]]:
    """`[0, num_blocks)` in parts as equal as can be; none is empty."""
    num_parts = min(num_parts, num_blocks)
    borders = [num_blocks * part // num_parts for part in range(num_parts + 1)]
    return list(pairwise(borders))


class LocalSwarm:
    """The members of one local swarm; they are `processes`, and end with them."""

    def __init__(self, processes: Processes, folder: Path, name: str) -> None:
        self._processes = processes
        self._folder = folder
        self._name = name
        self.invite = ""

    async def bootstrap(self, num_peers: int) -> str:
        """Starts the group; returns its invite, for these peers and the command that asks."""
        arguments = ["bootstrap", "--no-page", "--name", self._name, *self._place("bootstrap")]
        arguments += ["--first-uses", str(num_peers + 1), "--first-expires", "1d"]
        process = await self._processes.start("bootstrap", arguments)
        self.invite = await process.line()
        return self.invite

    async def peer(
        self, name: str, model: str, span: tuple[int, int], options: Sequence[str]
    ) -> tuple[Process, str]:
        """Starts a peer of the group for these blocks; returns it and its line once it serves."""
        arguments = ["peer", "--model", model, "--name", name]
        arguments += ["--blocks", f"{span[0]}:{span[1]}", *options, *self._place(name)]
        process = await self._processes.start(name, arguments, {"HOMESWARM_INVITE": self.invite})
        return process, await process.line()

    @property
    def asker(self) -> JoinConfig:
        """How this command itself joins, to ask; what it is in this group goes with the folder."""
        from swarm.member import JoinConfig

        return JoinConfig(
            asks=True,
            name="client",
            host=HOST,
            map_port=False,
            state_folder=self._folder / "client",
        )

    def _place(self, name: str) -> list[str]:
        return ["--dir", str(self._folder / name), "--host", HOST, "--no-map-port"]
