"""How the next token is chosen: transformers' own logits processors, applied at the client.

The order is transformers': penalties first, then temperature, then the filters. With a seed the
draws are those of `torch.manual_seed(seed)` followed by `generate()`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from swarm.errors import RequestError

from .grammar import Grammar
from .grammar.matcher import Matcher


@dataclass(frozen=True)
class SamplingConfig:
    """What a caller may ask for; the defaults are greedy.

    `temperature` 0 always takes the likeliest token. `top_k` 0, `top_p` 1 and `min_p` 0 filter
    nothing, `repetition_penalty` 1 punishes nothing. Text ends before the first of `stop`. With a
    `grammar` no token is drawn that leads out of it, and the text ends where it must.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        checks = {
            "max_new_tokens must be at least 1": self.max_new_tokens >= 1,
            "temperature must be 0 or more": self.temperature >= 0,
            "top_k must be 0 or more": self.top_k >= 0,
            "top_p must be above 0 and at most 1": 0 < self.top_p <= 1,
            "min_p must be between 0 and 1": 0 <= self.min_p <= 1,
            "repetition_penalty must be above 0": self.repetition_penalty > 0,
            "a stop string cannot be empty": all(self.stop),
            "a grammar says where a text ends: ignore_eos cannot hold": not (
                self.ignore_eos and self.grammar
            ),
        }
        if wrong := [text for text, holds in checks.items() if not holds]:
            raise RequestError("; ".join(wrong))


class Sampler:
    """Chooses tokens by one configuration; holds the state of its random generator.

    `matcher` follows the reply through the configuration's grammar, if there is one.
    """

    def __init__(self, config: SamplingConfig, matcher: Matcher | None = None) -> None:
        assert (matcher is None) == (config.grammar is None)
        self.config = config
        self.matcher = matcher
        self._greedy = config.temperature == 0
        self._processors = _processors(config)
        self._generator = torch.Generator()
        if config.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(config.seed)

    def choose(self, ids: torch.Tensor, logits: torch.Tensor) -> int:
        """The next token after `ids` `[n]`, from `logits` `[vocab_size]` in float32."""
        if self.matcher is not None:
            logits = self.matcher.mask(logits)
        token = self._draw(self._processors(ids[None], logits[None]))
        if self.matcher is not None:
            self.matcher.advance(token)
        return token

    @property
    def finished(self) -> bool:
        """Whether the grammar lets nothing follow."""
        return self.matcher is not None and self.matcher.finished

    def _draw(self, scores: torch.Tensor) -> int:
        if self._greedy:
            return int(torch.argmax(scores, dim=-1))
        chances = torch.softmax(scores, dim=-1)
        return int(torch.multinomial(chances, 1, generator=self._generator))


def _processors(config: SamplingConfig) -> LogitsProcessorList:
    processors = LogitsProcessorList()
    if config.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
    if config.temperature == 0:
        return processors
    if config.temperature != 1:
        processors.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        processors.append(TopKLogitsWarper(config.top_k))
    if config.top_p < 1:
        processors.append(TopPLogitsWarper(config.top_p))
    if config.min_p:
        processors.append(MinPLogitsWarper(config.min_p))
    return processors
