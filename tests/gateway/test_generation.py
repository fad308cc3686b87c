"""Which of several replies are the best."""

from __future__ import annotations

from swarm.client import Reply
from swarm.client.logprobs import Score
from swarm.gateway.generation import likeliest


def scored(*logprobs: float) -> Reply:
    return Reply([1], scores={place: Score(each, ()) for place, each in enumerate(logprobs)})


def test_the_likeliest_is_so_per_token_and_not_the_shortest() -> None:
    assert likeliest([scored(-2.0), scored(-1.0, -1.0, -1.0, -1.0), scored(-3.0)]) == [1, 0, 2]


def test_among_equals_the_first_comes_first() -> None:
    assert likeliest([scored(-1.0), scored(-1.0, -1.0), scored()]) == [2, 0, 1]
