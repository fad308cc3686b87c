"""Penalties and biases against a slow reference, token for token."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swarm.client.grammar import Grammar
from swarm.client.penalties import LogitBias, ReplyPenalty
from swarm.client.sampling import Sampler, SamplingConfig

VOCAB_SIZE = 12
LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=VOCAB_SIZE, max_size=VOCAB_SIZE)
TOKENS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=20)
PENALTY = st.floats(-2, 2)


@given(LOGITS, TOKENS, TOKENS, PENALTY, PENALTY)
def test_only_what_the_reply_has_said_counts(logits, prompt, reply, presence, frequency) -> None:
    penalty = ReplyPenalty(presence, frequency, len(prompt))
    ids = torch.tensor([[*prompt, *reply]], dtype=torch.long)
    found = penalty(ids, torch.tensor([logits]))[0].tolist()
    counts = Counter(reply)
    expected = [
        logit - counts[token] * frequency - (counts[token] > 0) * presence
        for token, logit in enumerate(logits)
    ]
    assert found == pytest.approx(expected, abs=1e-4)


def test_each_row_of_a_batch_has_its_own_counts() -> None:
    penalty = ReplyPenalty(0.5, 1.0, 1)
    found = penalty(torch.tensor([[2, 1, 1], [1, 0, 2]]), torch.zeros(2, 3))
    assert found.tolist() == [[0, -2.5, 0], [-1.5, 0, -1.5]]


@given(LOGITS, st.dictionaries(st.integers(0, VOCAB_SIZE - 1), st.floats(-100, 100), min_size=1))
def test_a_bias_is_added(logits, biases) -> None:
    given_logits = torch.tensor([logits])
    found = LogitBias(biases.items())(torch.tensor([[1]]), given_logits)[0].tolist()
    expected = [logit + biases.get(token, 0) for token, logit in enumerate(logits)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert given_logits.tolist() == [logits], "what logprobs are told of stays as it was"


def test_the_order_is_penalties_then_bias_then_temperature_and_filters() -> None:
    """Drawn tokens follow the distribution that the formulas give."""
    config = SamplingConfig(
        temperature=0.7,
        top_k=4,
        repetition_penalty=1.3,
        presence_penalty=0.4,
        frequency_penalty=0.3,
        logit_bias=((3, 1.5), (0, -100)),
        seed=5,
    )
    logits = torch.tensor([4.0, 2.0, 1.5, 0.5, 0.2, -3.0])
    ids = torch.tensor([2, 5, 1, 1, 3])
    adjusted = logits.clone()
    for token in {2, 5, 1, 3}:
        adjusted[token] = adjusted[token] / 1.3 if adjusted[token] > 0 else adjusted[token] * 1.3
    for token, count in {1: 2, 3: 1}.items():
        adjusted[token] -= 0.4 + 0.3 * count
    adjusted[3] += 1.5
    adjusted[0] -= 100
    scores = adjusted / 0.7
    scores[scores < scores.topk(4).values[-1]] = float("-inf")
    expected = torch.softmax(scores, -1)
    sampler = Sampler(config, prompt_len=2)
    num_draws = 4000
    counts = Counter(sampler.choose(ids, logits) for _ in range(num_draws))
    for token, chance in enumerate(expected.tolist()):
        spread = 5 * (chance * (1 - chance) / num_draws) ** 0.5
        assert counts[token] / num_draws == pytest.approx(chance, abs=spread + 1e-9)
    assert counts[0] == 0


class Evens:
    """Lets even tokens through; remembers what it was told."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def mask(self, scores: torch.Tensor) -> torch.Tensor:
        odd = torch.arange(len(scores)) % 2 == 1
        return scores.masked_fill(odd, float("-inf"))

    def advance(self, token: int) -> None:
        self.seen.append(token)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_matcher_has_the_last_word_before_the_filters(temperature) -> None:
    options = {"top_k": 2, "logit_bias": ((1, 100.0),), "seed": 1, "grammar": Grammar.regex(".*")}
    matcher: Any = Evens()
    sampler = Sampler(SamplingConfig(temperature=temperature, **options), matcher=matcher)
    logits = torch.arange(6.0)
    chosen = [sampler.choose(torch.tensor([0]), logits) for _ in range(20)]
    assert set(chosen) <= {2, 4} and matcher.seen == chosen
    assert temperature == 0 or set(chosen) == {2, 4}, "two that are allowed, not one of the top two"
