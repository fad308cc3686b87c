"""A reply: what is known of it while it grows, and what lets it go on after an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from swarm.wire.messages import HopTimes

from .grammar.matcher import Matcher
from .logprobs import Score
from .piece import Piece
from .route import Route
from .sampling import Sampler, SamplingConfig
from .timing import Timing

if TYPE_CHECKING:
    from .energy import Energy


class Finish(StrEnum):
    """Why a reply ended."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"


@dataclass
class Reply:
    """What is known of a reply; grows while it streams. Times in seconds.

    `hop_seconds` holds, for each hop of the route, the mean queue and compute time of a decode
    step. Of `num_drafted` guesses that travelled with it, `num_accepted` came true; so `num_steps`
    decode steps may have brought more tokens than that. `num_cached` positions of the prompt were
    computed by no peer, as all had kept them from earlier replies. `timing` tells where the time of
    decode steps went. `distrusted` are peers that the reply went through and that were found to
    compute wrongly, perhaps after its end: its words may be wrong from the beginning. `scores` are
    the logprobs of its tokens, by their place in `ids`, where they were asked for, and
    `prompt_scores` those of the prompt's from the second on. `energy` is what the peers have
    spent on a token, once the reply has ended and if they tell. Of its tokens `num_told` have been
    part of a `Piece`. `stopped_by` is the stop string that ended it.
    """

    prompt_ids: list[int]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None
    stopped_by: str | None = None
    scores: dict[int, Score] = field(default_factory=dict)
    prompt_scores: list[Score] | None = None
    num_told: int = 0
    route: Route = ()
    hop_seconds: list[tuple[float, float]] = field(default_factory=list)
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    timing: Timing = field(default_factory=Timing)
    num_recoveries: int = 0
    num_handovers: int = 0
    num_cached: int = 0
    num_steps: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    distrusted: list[str] = field(default_factory=list)
    energy: Energy | None = None
    _num_timed: int = 0
    _sampler: Sampler | None = None

    @property
    def tokens_per_second(self) -> float:
        """Decoded tokens per second after the first one; 0 where there were none."""
        return (len(self.ids) - 1) / self.decode_seconds if self.decode_seconds else 0.0

    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Who chooses the tokens; the same one, and its random state, where a reply goes on.

        With a grammar, `constrain` has made it.
        """
        if self._sampler is None or self._sampler.config != sampling:
            self._sampler = Sampler(sampling, len(self.prompt_ids))
        return self._sampler

    def is_constrained(self, sampling: SamplingConfig) -> bool:
        """Whether nothing is to be done before the sampler can follow the grammar."""
        known = self._sampler is not None and self._sampler.config == sampling
        return sampling.grammar is None or known

    def constrain(self, sampling: SamplingConfig, matcher: Matcher) -> None:
        """Has a sampler follow the grammar, from the first token on."""
        for token in self.ids:
            matcher.advance(token)
        self._sampler = Sampler(sampling, len(self.prompt_ids), matcher)

    def tell(self, piece: Piece) -> None:
        """A piece is about to be read by whoever asked."""
        self.num_told += len(piece.tokens)
        self.text += piece.text

    def take_back(self, piece: Piece) -> None:
        """Nobody has read a piece, nor any after it: it is told again when the reply goes on."""
        self.num_told -= len(piece.tokens)
        self.text = self.text[: len(self.text) - len(piece.text)]

    def note_times(self, times: HopTimes) -> None:
        """Adds one decode step's times; a changed route starts the mean anew."""
        if len(times) != len(self.hop_seconds):
            self.hop_seconds, self._num_timed = [(0.0, 0.0)] * len(times), 0
        self._num_timed += 1
        weight = 1 / self._num_timed
        self.hop_seconds = [
            (
                queue + weight * (hop.queue / 1e6 - queue),
                compute + weight * (hop.compute / 1e6 - compute),
            )
            for (queue, compute), hop in zip(self.hop_seconds, times, strict=True)
        ]
