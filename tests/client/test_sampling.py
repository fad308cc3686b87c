"""P5: the tokens that `generate()` draws under the same seed."""

from __future__ import annotations

import pytest
import torch

from swarm.client.sampling import Sampler, SamplingConfig
from swarm.errors import RequestError

PROMPT = [1, 17, 250, 33, 4, 99]
CONFIGS = {
    "greedy": {},
    "greedy, repetition penalty": {"repetition_penalty": 1.5},
    "plain": {"temperature": 1.0},
    "cold": {"temperature": 0.4},
    "top-k": {"temperature": 1.0, "top_k": 5},
    "top-p": {"temperature": 1.2, "top_p": 0.6},
    "min-p": {"temperature": 1.5, "min_p": 0.1},
    "repetition penalty": {"temperature": 0.9, "repetition_penalty": 1.4},
    "all": {
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.01,
        "repetition_penalty": 1.2,
    },
}


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS.keys())
def test_p5_the_tokens_of_generate(make_model, options, seed) -> None:
    _, model = make_model("llama", eos_token_id=None)
    prompt = torch.tensor([PROMPT])
    theirs = {"top_k": 0, **options}
    if "temperature" not in options:
        theirs["top_k"] = None
    torch.manual_seed(seed)
    with torch.no_grad():
        expected = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=20,
            do_sample="temperature" in options,
            pad_token_id=0,
            **theirs,
        )[0].tolist()
    sampler = Sampler(SamplingConfig(seed=seed, **options))
    torch.manual_seed(99)  # The global generator is nobody's business here.
    ids = list(PROMPT)
    for _ in range(20):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1].float()
        ids.append(sampler.choose(torch.tensor(ids), logits))
    assert ids == expected


def test_numbers_need_no_point() -> None:
    options = {"temperature": 2, "top_p": 1, "min_p": 0, "repetition_penalty": 2, "seed": 1}
    points = {name: float(value) for name, value in options.items() if name != "seed"} | {"seed": 1}
    logits, ids = torch.linspace(0, 3, 100), torch.tensor([1])
    drawn = [Sampler(SamplingConfig(**each)).choose(ids, logits) for each in (options, points)]
    assert drawn[0] == drawn[1]


def test_without_a_seed_two_draws_differ() -> None:
    logits, ids = torch.zeros(1000), torch.tensor([1])
    draws = []
    for _ in range(2):
        sampler = Sampler(SamplingConfig(temperature=1.0))
        draws.append([sampler.choose(ids, logits) for _ in range(8)])
    assert draws[0] != draws[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": -0.5}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"frequency_penalty": float("nan")}, "frequency_penalty"),
        ({"logit_bias": ((1, 101.0),)}, "logit_bias must"),
        ({"logit_bias": ((1, float("nan")),)}, "logit_bias must"),
        ({"logit_bias": ((1, 1.0), (1, 2.0))}, "twice"),
        ({"logprobs": -1}, "logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"prompt_logprobs": 0, "max_new_tokens": -1}, "max_new_tokens"),
        ({"stop": ("a", "")}, "stop string"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_what_means_nothing_is_refused(options, message) -> None:
    with pytest.raises(RequestError, match=message):
        SamplingConfig(**options)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(RequestError, match="temperature must be 0 or more; top_p"):
        SamplingConfig(temperature=-1, top_p=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logit_bias": ((10, 1.0),)}, "token 10; the model has 10"),
        ({"logit_bias": ((-1, 1.0),)}, "token -1"),
        ({"logprobs": 11}, "11 logprobs"),
        ({"prompt_logprobs": 11}, "11 logprobs"),
    ],
)
def test_what_the_vocabulary_does_not_have_is_refused(options, message) -> None:
    SamplingConfig(logit_bias=((9, 1.0),), logprobs=10).check_vocabulary(10)
    with pytest.raises(RequestError, match=message):
        SamplingConfig(**options).check_vocabulary(10)


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-12])
def test_hardly_any_temperature_is_greedy(temperature: float) -> None:
    sampler = Sampler(SamplingConfig(temperature=temperature, top_p=0.5))
    logits = torch.tensor([-1e4, 3.0, 1e4, 7.0])
    assert sampler.choose(torch.tensor([1]), logits) == 2
