"""How the next token is chosen: transformers' own logits processors, applied at the client.

The order is transformers': penalties first, then temperature, then the filters. With a seed the
draws are those of `torch.manual_seed(seed)` followed by `generate()`. A caller's bias comes after
the penalties, so that none of them changes it; what a `Matcher` forbids comes after that, so that
no bias brings it back and the filters choose among what is allowed.
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
from .penalties import LogitBias, ReplyPenalty

MAX_SEED = 2**64 - 1
"""What torch's generators take."""


@dataclass(frozen=True)
class SamplingConfig:
    """What a caller may ask for; the defaults are greedy.

    `temperature` 0 always takes the likeliest token. `top_k` 0, `top_p` 1 and `min_p` 0 filter
    nothing, `repetition_penalty` 1 punishes nothing. `presence_penalty` and `frequency_penalty`, -2
    to 2, make tokens less likely that the reply, not its prompt, has (`swarm.client.penalties`);
    `logit_bias` adds -100 to 100 to single tokens' logits, in pairs of token id and bias. Text ends
    before the first of `stop`. With `logprobs` each token's is told, and those of so many likeliest
    ones (`swarm.client.logprobs`); `prompt_logprobs` says the same of the prompt. That changes no
    reply, and with the latter there need be none: `max_new_tokens` may be 0. With a `grammar` no
    token is drawn that leads out of it, and the text ends where it must.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        checks = {
            "max_new_tokens must be at least 1": self.max_new_tokens
            >= (self.prompt_logprobs is None),
            "temperature must be 0 or more": self.temperature >= 0,
            "top_k must be 0 or more": self.top_k >= 0,
            "top_p must be above 0 and at most 1": 0 < self.top_p <= 1,
            "min_p must be between 0 and 1": 0 <= self.min_p <= 1,
            "repetition_penalty must be above 0": self.repetition_penalty > 0,
            f"seed must be between 0 and {MAX_SEED}": 0 <= (self.seed or 0) <= MAX_SEED,
            "presence_penalty must be between -2 and 2": -2 <= self.presence_penalty <= 2,
            "frequency_penalty must be between -2 and 2": -2 <= self.frequency_penalty <= 2,
            "logit_bias must be between -100 and 100": all(
                -100 <= bias <= 100 for _, bias in self.logit_bias
            ),
            "logit_bias names a token twice": len(self.logit_bias) == len(dict(self.logit_bias)),
            "logprobs must be 0 or more": (self.logprobs or 0) >= 0,
            "prompt_logprobs must be 0 or more": (self.prompt_logprobs or 0) >= 0,
            "a stop string cannot be empty": all(self.stop),
            "a grammar says where a text ends: ignore_eos cannot hold": not (
                self.ignore_eos and self.grammar
            ),
        }
        if wrong := [text for text, holds in checks.items() if not holds]:
            raise RequestError("; ".join(wrong))

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises `RequestError` for what a vocabulary of this size cannot give."""
        strangers = [token for token, _ in self.logit_bias if not 0 <= token < vocab_size]
        if strangers:
            raise RequestError(
                f"logit_bias names token {strangers[0]}; the model has {vocab_size} tokens"
            )
        most = max(self.logprobs or 0, self.prompt_logprobs or 0)
        if most > vocab_size:
            raise RequestError(f"{most} logprobs; the model has {vocab_size} tokens")


_LEAST_TEMPERATURE = 1e-9
"""Below, scores would overflow; here no token but the likeliest has a chance already."""


class Sampler:
    """Chooses tokens by one configuration; holds the state of its random generator.

    The first `prompt_len` tokens of what it is shown are a prompt's. `matcher` follows the reply
    through the configuration's grammar, if there is one.
    """

    def __init__(
        self, config: SamplingConfig, prompt_len: int = 0, matcher: Matcher | None = None
    ) -> None:
        assert (matcher is None) == (config.grammar is None)
        self.config = config
        self.matcher = matcher
        self._greedy = config.temperature == 0
        self._penalties = _penalties(config, prompt_len)
        self._warpers = _warpers(config)
        self._generator = torch.Generator()
        if config.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(config.seed)

    def choose(self, ids: torch.Tensor, logits: torch.Tensor) -> int:
        """The next token after `ids` `[n]`, from `logits` `[vocab_size]` in float32."""
        scores = self._penalties(ids[None], logits[None])
        if self.matcher is not None:
            scores = self.matcher.mask(scores[0])[None]
        token = self._draw(self._warpers(ids[None], scores))
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


def _penalties(config: SamplingConfig, prompt_len: int) -> LogitsProcessorList:
    processors = LogitsProcessorList()
    if config.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(float(config.repetition_penalty)))
    if config.presence_penalty or config.frequency_penalty:
        penalties = config.presence_penalty, config.frequency_penalty
        processors.append(ReplyPenalty(*penalties, prompt_len))
    if config.logit_bias:
        processors.append(LogitBias(config.logit_bias))
    return processors


def _warpers(config: SamplingConfig) -> LogitsProcessorList:
    processors = LogitsProcessorList()
    if config.temperature == 0:
        return processors
    if config.temperature != 1:
        temperature = max(float(config.temperature), _LEAST_TEMPERATURE)
        processors.append(TemperatureLogitsWarper(temperature))
    if config.top_k:
        processors.append(TopKLogitsWarper(config.top_k))
    if config.top_p < 1:
        processors.append(TopPLogitsWarper(config.top_p))
    if config.min_p:
        processors.append(MinPLogitsWarper(config.min_p))
    return processors
