"""How likely tokens were by the model itself, whatever a caller asked of the choice.

Logprobs are natural logarithms of the softmax of the logits as the model gives them: before
penalties, bias, masks, temperature and filters. So they say the same of a greedy reply and of one
that is drawn, and can be compared with those of other servers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Score:
    """The logprob of a token at its position, and the likeliest `(id, logprob)` there, in order."""

    logprob: float
    top: tuple[tuple[int, float], ...]


def score(logits: torch.Tensor, token: int, num_top: int) -> Score:
    """The score of `token` by the logits `[vocab_size]` of its position, float32."""
    (found,) = scores(logits[None], [token], num_top)
    return found


def scores(logits: torch.Tensor, tokens: list[int], num_top: int) -> list[Score]:
    """The scores of `tokens`, one for each row of the logits `[n, vocab_size]`, float32."""
    totals = torch.logsumexp(logits, dim=-1, keepdim=True)
    chosen = (logits.gather(1, torch.tensor(tokens)[:, None]) - totals)[:, 0].tolist()
    best = torch.topk(logits, num_top, dim=-1)
    ids, values = best.indices.tolist(), (best.values - totals).tolist()
    return [
        Score(logprob, tuple(zip(row_ids, row_values, strict=True)))
        for logprob, row_ids, row_values in zip(chosen, ids, values, strict=True)
    ]
