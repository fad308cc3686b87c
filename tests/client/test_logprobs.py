from __future__ import annotations

import pytest
import torch

from swarm.client.logprobs import score, scores


def test_scores_are_those_of_log_softmax() -> None:
    logits = 5 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    expected = torch.log_softmax(logits, -1)
    for row, found in enumerate(scores(logits, [3, 0, 49, 7], 5)):
        assert found.logprob == pytest.approx(float(expected[row, [3, 0, 49, 7][row]]), abs=1e-5)
        best = expected[row].topk(5)
        assert [token for token, _ in found.top] == best.indices.tolist()
        assert [value for _, value in found.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_none_of_the_likeliest_may_be_asked() -> None:
    found = score(torch.zeros(8), 3, 0)
    assert found.top == () and found.logprob == pytest.approx(-2.0794415)
