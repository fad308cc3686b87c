from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from swarm.checkpoint import open_checkpoint
from swarm.client.speculation.draft_model import DraftModel, ModelDrafter
from swarm.errors import ConfigError

TEXT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]


def draft_model(folder: Path, large: Path) -> DraftModel:
    with open_checkpoint(str(folder)) as small, open_checkpoint(str(large)) as whole:
        return DraftModel.load(small, whole, torch.float32)


def push(drafter: ModelDrafter, tokens: list[int]) -> None:
    for token in tokens:
        drafter.push(token)


def guessed(drafter: ModelDrafter, most: int) -> list[int]:
    return [guess.token for guess in islice(drafter.guesses(), most)]


def greedy(reference: Any, ids: list[int], count: int) -> list[int]:
    given = torch.tensor([ids])
    with torch.no_grad():
        out = reference.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
        )
    return [int(token) for token in out[0, len(ids) :]]


@pytest.fixture(scope="module", params=["llama", "mistral", "gemma2"])
def small(request: pytest.FixtureRequest, make_model: Any) -> Iterator[tuple[DraftModel, Any]]:
    """A small model, also with layers that look back a few tokens only."""
    window = {} if request.param == "llama" else {"sliding_window": 8}
    folder, reference = make_model(request.param, num_hidden_layers=2, **window)
    yield draft_model(folder, make_model("llama")[0]), reference


def test_guesses_are_what_the_small_model_finds_likeliest(small: tuple[DraftModel, Any]) -> None:
    model, reference = small
    drafter = model.drafter()
    push(drafter, TEXT)
    assert guessed(drafter, 20) == greedy(reference, TEXT, 20)
    assert model.seconds > 0


def test_what_did_not_come_true_is_taken_back(small: tuple[DraftModel, Any]) -> None:
    model, reference = small
    drafter = model.drafter()
    drafter.push(TEXT[0])
    drafter.prepare()
    push(drafter, TEXT[1:])
    text = list(TEXT)
    for right in (0, 2, 5, 1):
        guesses = guessed(drafter, 5)
        assert guesses == greedy(reference, text, 5)
        new = [*guesses[:right], (guesses[right - 1] + 1) % 256]
        push(drafter, new)
        text += new


def test_a_long_text_is_read_in_parts(make_model: Any) -> None:
    folder, reference = make_model("llama", max_position_embeddings=2048)
    drafter = draft_model(folder, folder).drafter()
    text = [(7 * n) % 256 for n in range(1300)]
    push(drafter, text)
    assert guessed(drafter, 3) == greedy(reference, text, 3)


def test_a_likelier_guess_promises_more(make_model: Any) -> None:
    folder, _ = make_model("llama")
    drafter = draft_model(folder, folder).drafter()
    push(drafter, TEXT)
    grades = {guess.grade for guess in islice(drafter.guesses(), 40)}
    by_level = sorted(grades, key=lambda grade: grade.level)
    chances = [grade.chance for grade in by_level]
    assert chances == sorted(set(chances))


def test_another_vocabulary_is_refused(
    make_model: Any, make_byte_level: Callable[..., Any], tmp_path: Path
) -> None:
    folder, _ = make_model("llama")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    make_byte_level([("a", "b")]).save_pretrained(other)
    with pytest.raises(ConfigError, match=r"different vocabularies \(1 tokens differ; 'ab' is"):
        draft_model(other, folder)


def test_too_few_tokens_are_refused(make_model: Any) -> None:
    folder, _ = make_model("llama")
    poor, _ = make_model("llama", vocab_size=200)
    with pytest.raises(ConfigError, match=r"knows 200 tokens, and 259 are needed"):
        draft_model(poor, folder)


def test_tokens_that_the_large_model_does_not_have_are_never_guessed(make_model: Any) -> None:
    large, _ = make_model("llama")
    folder, reference = make_model("llama", vocab_size=2000)
    drafter = draft_model(folder, large).drafter()
    push(drafter, TEXT)
    assert max(greedy(reference, TEXT, 20)) >= 300, "it would like to say others"
    assert max(guessed(drafter, 20)) < 300


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_nothing_is_guessed_beyond_what_the_model_can_read(
    make_model: Any, architecture: str
) -> None:
    folder, _ = make_model(architecture, max_position_embeddings=16)
    drafter = draft_model(folder, folder).drafter()
    push(drafter, TEXT)
    drafter.prepare()
    # It has read 11 tokens, can read 5 of its own, and says what would come after these.
    assert len(guessed(drafter, 20)) == 6
    push(drafter, TEXT)
    assert guessed(drafter, 20) == []
    late = draft_model(folder, folder).drafter()
    push(late, [*TEXT, *TEXT])
    late.prepare()
    assert guessed(late, 20) == []
