"""How tokens are chosen, by the fields that the older two endpoints have in common."""

from __future__ import annotations

from typing import Protocol

from swarm.client import SamplingConfig

from .fields import bias_of, seed_of, stop_strings, top_p_of


class Body(Protocol):
    """What such a request says of it; `None` is the API's default."""

    temperature: float | None
    top_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: dict[str, float] | None
    seed: int | None
    stop: str | list[str] | None


def sampling_of(body: Body, limit: int | None) -> SamplingConfig:
    """For at most `limit` tokens; where none are wanted, or nobody has said, it stands for one.

    Raises `Refusal`.
    """
    return SamplingConfig(
        max_new_tokens=limit or 1,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=top_p_of(body.top_p),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=bias_of(body.logit_bias),
        seed=seed_of(body.seed),
        stop=stop_strings(body.stop),
    )
