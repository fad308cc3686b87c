"""A small model on the client's own machine that guesses what the large one will say.

It has to speak of the same tokens. Its guesses are what it finds likeliest, graded by how likely.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from swarm.checkpoint import Checkpoint
from swarm.checkpoint.quiet import quiet
from swarm.errors import ConfigError
from swarm.linear import prepack

from .guess import Grade, Guess

logger = logging.getLogger(__name__)

_CHUNK_LEN = 512
"""Positions that are computed at once when a long text is read."""

_BORDERS = (0, 30, 50, 70, 85, 95, 99)
_CHANCES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
_GRADES = tuple(Grade("draft model", *each) for each in zip(_BORDERS, _CHANCES, strict=True))
"""By the least probability, in hundredths, that the small model gives its token."""

_PROBE_LEN = 4


class DraftModel:
    """A whole small model, for all replies. `seconds` is what a token takes it."""

    def __init__(self, model: PreTrainedModel, vocab_size: int, context_length: int) -> None:
        """`vocab_size` is that of the large model: ids from there on are never guessed."""
        self.context_length = context_length
        """Tokens that the model can read. Some fail beyond that, the others make no sense."""
        self._model = model
        self._vocab_size = vocab_size
        self.seconds = 0.0

    @classmethod
    def load(cls, draft: Checkpoint, large: Checkpoint, dtype: torch.dtype) -> DraftModel:
        """Loads all of `draft` as a drafter for `large`.

        Raises `ConfigError` if their vocabularies differ, or if the architecture cannot take back
        tokens that it has read.
        """
        check_vocabulary(draft, large)
        model = cls(_load(draft, dtype), large.config.vocab_size, draft.context_length)
        model._probe(draft.name)
        logger.info("draft model name=%s seconds=%.4f", draft.name, model.seconds)
        return model

    def drafter(self) -> ModelDrafter:
        """A drafter for one reply, with a cache of its own."""
        return ModelDrafter(self)

    @torch.inference_mode()
    def read(self, tokens: Sequence[int], cache: DynamicCache) -> torch.Tensor:
        """Reads tokens behind those in `cache`; logits `[vocab_size]` of what comes next."""
        for part in torch.split(torch.tensor([list(tokens)]), _CHUNK_LEN, dim=1):
            logits = self._model(part, past_key_values=cache, logits_to_keep=1).logits
        row: torch.Tensor = logits[0, -1, : self._vocab_size].float()
        return row

    def _probe(self, name: str) -> None:
        cache = DynamicCache()
        tokens = list(range(_PROBE_LEN))
        try:
            whole = self.read(tokens, cache)
            cache.crop(-1)
            started = time.perf_counter()
            again = self.read(tokens[-1:], cache)
            self.seconds = time.perf_counter() - started
        except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
            raise ConfigError(f"{name} cannot draft: {error}") from error
        if int(whole.argmax()) != int(again.argmax()) and not torch.allclose(
            whole, again, rtol=0.05, atol=0.05 * float(whole.abs().max())
        ):
            raise ConfigError(f"{name} cannot draft: it cannot take back what it has read")


class ModelDrafter:
    """The small model's guesses for one reply."""

    def __init__(self, model: DraftModel) -> None:
        self._model = model
        self._cache = DynamicCache()
        self._text: list[int] = []
        self._read: list[int] = []
        """What the cache holds: the text so far as it was known, and guesses after it."""
        self.seconds = model.seconds

    def push(self, token: int) -> None:
        """The text has grown by a token."""
        self._text.append(token)

    def prepare(self) -> None:
        """Reads the text as far as it is known, which takes long for a long one."""
        if len(self._text) <= self._model.context_length:
            self._catch_up()

    def guesses(self) -> Iterator[Guess]:
        """What the model finds likeliest, token after token; each takes a step of it.

        None of a text that is longer than the model can read.
        """
        if len(self._text) > self._model.context_length:
            return
        logits = self._catch_up()
        while True:
            chance, token = torch.softmax(logits, dim=-1).max(dim=-1)
            yield Guess(int(token), _grade(float(chance)))
            if len(self._read) == self._model.context_length:
                return
            logits = self._feed([int(token)])

    def _catch_up(self) -> torch.Tensor:
        agreed = 0
        # What has come true of its own guesses is read already; the last token is read anew.
        while agreed < min(len(self._read), len(self._text) - 1):
            if self._read[agreed] != self._text[agreed]:
                break
            agreed += 1
        if agreed < len(self._read):
            self._cache.crop(agreed - len(self._read))
            del self._read[agreed:]
        return self._feed(self._text[agreed:])

    def _feed(self, tokens: Sequence[int]) -> torch.Tensor:
        logits = self._model.read(tokens, self._cache)
        self._read += tokens
        return logits


def check_vocabulary(draft: Checkpoint, large: Checkpoint) -> None:
    """Raises `ConfigError` unless both models mean the same by every token id."""
    theirs, ours = draft.tokenizer().get_vocab(), large.tokenizer().get_vocab()
    differing = sorted(
        (word for word in theirs.keys() | ours.keys() if theirs.get(word) != ours.get(word)),
        key=lambda word: (ours.get(word, theirs.get(word)), word),
    )
    if differing:
        word = differing[0]
        here, there = ours.get(word, "unknown"), theirs.get(word, "unknown")
        raise ConfigError(
            f"{draft.name} cannot draft for {large.name}: they have different vocabularies"
            f" ({len(differing)} tokens differ; {word!r} is {here} here and {there} there)"
        )
    if draft.config.vocab_size <= max(ours.values()):
        raise ConfigError(
            f"{draft.name} cannot draft for {large.name}: it knows {draft.config.vocab_size}"
            f" tokens, and {max(ours.values()) + 1} are needed"
        )


def _load(checkpoint: Checkpoint, dtype: torch.dtype) -> PreTrainedModel:
    try:
        kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(checkpoint.config)]
    except KeyError:
        name = checkpoint.config.model_type
        raise ConfigError(f"{checkpoint.name}: {name} is no decoder in this transformers") from None
    state = checkpoint.load_ends(dtype)
    state |= checkpoint.load_blocks(0, checkpoint.num_blocks, dtype)
    with quiet():
        model: PreTrainedModel = kind.from_pretrained(
            None, config=checkpoint.config, state_dict=state, dtype=dtype
        ).eval()
    prepack(model)
    return model


def _grade(chance: float) -> Grade:
    return next(grade for grade in reversed(_GRADES) if grade.level <= 100 * chance)
