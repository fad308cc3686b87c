"""What a session's hops are asked to keep of its text, for other sessions of this client."""

from __future__ import annotations

from swarm.wire.messages import Prefix

from .chain import Chain
from .chunks import RowInput
from .progress import Progress
from .recollection import Recollection
from .transcript import Transcript


class Keeping:
    """Follows one session's text; without a `transcript` nothing of it can be kept."""

    def __init__(
        self,
        transcript: Transcript | None,
        chain: Chain,
        progress: Progress,
        recollection: Recollection,
    ) -> None:
        self._transcript = transcript
        self._chain = chain
        self._progress = progress
        self._recollection = recollection
        # The longest prefix that all hops of the chain were asked to keep.
        self._kept: Prefix | None = None
        self._trusted = True

    def write(self, row: RowInput) -> None:
        """The text goes on, or is rolled back, with a step."""
        if self._transcript is not None:
            self._transcript.write(row.position, row.ids)

    def prefixes(self, limit: int) -> tuple[Prefix, ...]:
        """Names of the text's beginnings of at most `limit` positions, the shortest first."""
        if self._transcript is None or not self._trusted:
            return ()
        return self._transcript.prefixes(limit)

    def distrust(self) -> None:
        """A peer has made no sense: nothing that came after it is worth to be kept, or used."""
        self._trusted = False

    def forget(self) -> None:
        """The chain has other hops now, which were asked for nothing yet."""
        self._kept = None

    def tell(self, every: int) -> None:
        """Has the hops keep the text, once it is `every` positions longer than the last time.

        The first time any length will do: others may wait to begin in the same way.
        """
        common, kept = self._progress.common[0], self._kept
        if kept is not None and kept.length <= common < kept.length + every:
            return
        prefixes = self.prefixes(common)
        if self._trusted and prefixes and prefixes[-1] != kept:
            self._kept = prefixes[-1]
            self._chain.keep(self._progress.generation, prefixes)
            self._recollection.note(prefixes, {hop.peer for hop in self._chain.route})
