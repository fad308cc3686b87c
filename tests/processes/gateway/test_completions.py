"""Completions by the `openai` package, from a swarm of processes."""

from __future__ import annotations

from typing import Any

import openai
import pytest

PROMPT = "The sky is"


def go_on(program: openai.OpenAI, prompt: Any = PROMPT, **fields: Any) -> Any:
    fields = {"model": "smol", "temperature": 0, "max_tokens": 6} | fields
    return program.completions.create(prompt=prompt, **fields)


async def test_texts_and_tokens_in_every_form(
    program: openai.OpenAI, async_program: openai.AsyncOpenAI, tokenizer: Any
) -> None:
    whole = go_on(program)
    text = whole.choices[0].text
    ids = tokenizer.encode(PROMPT)
    assert whole.usage.prompt_tokens == len(ids) and whole.usage.completion_tokens == 6
    assert whole.choices[0].finish_reason == "length" and whole.object == "text_completion"
    assert go_on(program, ids).choices[0].text == text
    assert "".join(c.choices[0].text for c in go_on(program, stream=True)) == text
    fields: Any = {"model": "smol", "prompt": PROMPT, "temperature": 0, "max_tokens": 6}
    assert (await async_program.completions.create(**fields)).choices[0].text == text
    options = {"include_usage": True}
    stream = await async_program.completions.create(**fields, stream=True, stream_options=options)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == text
    assert not chunks[-1].choices and chunks[-1].usage == whole.usage.model_copy(
        update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}
    )


def test_16_tokens_if_nothing_is_said(program: openai.OpenAI) -> None:
    answer = program.completions.create(model="smol", prompt=PROMPT, temperature=0)
    assert answer.usage.completion_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
def test_several_prompts_and_choices(program: openai.OpenAI, stream: bool) -> None:
    prompts = [PROMPT, "Bees are"]
    fields = {"n": 2, "temperature": 1, "seed": 5}
    alone = [[c.text for c in go_on(program, p, **fields).choices] for p in prompts]
    answer = go_on(program, prompts, **fields, stream=stream)
    found = {number: "" for number in range(4)}
    for part in answer if stream else [answer]:
        for choice in part.choices:
            found[choice.index] += choice.text
    assert [found[number] for number in range(4)] == [*alone[0], *alone[1]]


def test_the_best_of_several_are_the_likeliest(program: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"temperature": 1.5, "seed": 2, "logprobs": 0}

    def mean(choice: Any) -> float:
        chances = choice.logprobs.token_logprobs
        return float(sum(chances) / len(chances))

    every = go_on(program, n=4, **fields)
    best = go_on(program, n=2, best_of=4, **fields)
    ranked = sorted(every.choices, key=mean, reverse=True)
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert best.usage.completion_tokens == every.usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_with_logprobs(program: openai.OpenAI, tokenizer: Any, stream: bool) -> None:
    answer = go_on(program, echo=True, logprobs=2, max_tokens=3, stream=stream)
    parts = [c for chunk in answer for c in chunk.choices] if stream else answer.choices
    text = "".join(part.text for part in parts)
    lists = [part.logprobs for part in parts if part.logprobs]
    tokens = [token for each in lists for token in each.tokens]
    offsets = [offset for each in lists for offset in each.text_offset]
    chances = [chance for each in lists for chance in each.token_logprobs]
    assert text.startswith(PROMPT) and "".join(tokens) == text
    assert len(tokens) == len(tokenizer.encode(PROMPT)) + 3
    assert [text[a : a + len(token)] for a, token in zip(offsets, tokens, strict=True)] == tokens
    assert chances[0] is None and all(chance < 0 for chance in chances[1:])


def test_how_likely_a_text_is(program: openai.OpenAI) -> None:
    """Nothing is generated, and the numbers are those that generating gave."""
    made = go_on(program, logprobs=1)
    scored = go_on(program, PROMPT + made.choices[0].text, max_tokens=0, echo=True, logprobs=1)
    assert scored.usage.completion_tokens == 0
    expected = made.choices[0].logprobs.token_logprobs
    found = scored.choices[0].logprobs.token_logprobs[-len(expected) :]
    assert found == pytest.approx(expected, abs=1e-3)
    assert go_on(program, max_tokens=0, echo=True).choices[0].text == PROMPT


def test_stops_biases_and_penalties(program: openai.OpenAI, tokenizer: Any) -> None:
    text = go_on(program).choices[0].text
    stopped = go_on(program, stop=text[4:7]).choices[0]
    assert stopped.finish_reason == "stop" and stopped.text == text[: text.index(text[4:7])]
    (bee,) = tokenizer.encode(" bee")
    forced = go_on(program, logit_bias={str(bee): 100})
    assert forced.choices[0].text == " bee" * 6
    seeded = {"temperature": 2, "seed": 4, "top_p": 0.9, "user": "me"}
    assert go_on(program, **seeded).choices[0].text == go_on(program, **seeded).choices[0].text
    # So strongly biased, the token comes until the penalty outweighs that it is there already.
    biased = {"logit_bias": {str(bee): 14}, "max_tokens": 12}
    counts = [
        go_on(program, **biased, **penalty).choices[0].text.count(" bee")
        for penalty in ({}, {"frequency_penalty": 2}, {"presence_penalty": 2})
    ]
    assert counts[0] > counts[1]


def test_a_model_without_a_template_continues_texts_alone(
    program: openai.OpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError, match="template"):
        program.chat.completions.create(
            model="mute", messages=[{"role": "user", "content": "Hello"}]
        )
