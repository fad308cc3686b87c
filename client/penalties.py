"""What a caller adds to or takes from the logits of single tokens, as transformers' processors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from transformers import LogitsProcessor


class ReplyPenalty(LogitsProcessor):  # type: ignore[misc]
    """Makes tokens less likely that the reply has: `logit - count * frequency - said * presence`.

    The formula of OpenAI's API (`said` is 1 for a token that has come, else 0), with which a
    negative penalty makes them likelier. The first `prompt_len` tokens, the prompt's, do not count.
    """

    def __init__(self, presence: float, frequency: float, prompt_len: int) -> None:
        self._presence = presence
        self._frequency = frequency
        self._prompt_len = prompt_len

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `[batch, vocab_size]` of what follows `input_ids` `[batch, n]`."""
        scores = scores.clone()
        for row, said in zip(scores, input_ids[:, self._prompt_len :], strict=True):
            # A reply has far fewer tokens than the vocabulary.
            tokens, counts = torch.unique(said, return_counts=True)
            row[tokens] -= counts * self._frequency + self._presence
        return scores


class LogitBias(LogitsProcessor):  # type: ignore[misc]
    """Adds to the logits of some tokens, given as pairs of an id and what is added."""

    def __init__(self, biases: Iterable[tuple[int, float]]) -> None:
        ids, values = zip(*biases, strict=True)
        self._ids = torch.tensor(ids)
        self._values = torch.tensor(values, dtype=torch.float32)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """Scores `[batch, vocab_size]`, whatever came before."""
        return scores.index_add(1, self._ids, self._values.expand(len(scores), -1))
