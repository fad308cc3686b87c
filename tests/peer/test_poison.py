"""Numbers that are none stay in the row that brought them: others in its batch never notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from swarm.forms import Form
from swarm.linear import prepack
from swarm.peer.blocks import load_span
from swarm.peer.runner import RowStep, Runner

CPU = torch.device("cpu")

DENSE: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"sliding_window": 8},
    "gpt_neox": {},
}

SPARSE: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
}

ARCHITECTURES = DENSE | SPARSE

POISONS = [float("nan"), float("inf"), float("-inf"), 1e38]


def make(tiny: Callable[..., Any], architecture: str, form: Form = Form.NONE) -> Runner:
    checkpoint = tiny(architecture, **ARCHITECTURES[architecture])
    span = load_span(checkpoint, 0, 4, device=CPU, dtype=torch.float32)
    if form is not Form.NONE:
        prepack(span.model, form=form)
    return Runner(span, num_pages=16, page_len=4)


def beside(runner: Runner, poison: float | None, counts: tuple[int, int]) -> torch.Tensor:
    """What comes out for a good row, in two batches that it shares with another row."""
    good, bad = runner.pages.add_row(), runner.pages.add_row()
    generator = torch.Generator().manual_seed(0)
    outs = []
    for position, (num_good, num_bad) in ((0, counts), (counts[0], (1, 1))):
        at = position and counts[1]
        hidden = torch.randn(num_bad + num_good, 64, generator=generator)
        if poison is not None:
            hidden[:num_bad, 3::7] = poison
        steps = [RowStep(bad, at, num_bad), RowStep(good, position, num_good)]
        outs.append(runner.run(steps, hidden)[num_bad:].clone())
    runner.pages.remove_row(good)
    runner.pages.remove_row(bad)
    return torch.cat(outs)


@pytest.mark.parametrize("counts", [(5, 3), (11, 9)], ids=["few", "many"])
@pytest.mark.parametrize("architecture", DENSE)
def test_a_good_row_has_the_same_bits_beside_a_bad_one(
    architecture: str, counts: tuple[int, int], tiny: Callable[..., Any]
) -> None:
    runner = make(tiny, architecture)
    expected = beside(runner, None, counts)
    assert expected.isfinite().all()
    for poison in POISONS:
        assert torch.equal(beside(runner, poison, counts), expected), poison


@pytest.mark.parametrize("counts", [(5, 3), (11, 9)], ids=["few", "many"])
@pytest.mark.parametrize("architecture", SPARSE)
def test_a_bad_row_among_experts_changes_others_no_more_than_any_row(
    architecture: str, counts: tuple[int, int], tiny: Callable[..., Any]
) -> None:
    """Experts get as many rows as choose them, and sums of other lengths round otherwise."""
    runner = make(tiny, architecture)
    expected = beside(runner, None, counts)
    for poison in POISONS:
        out = beside(runner, poison, counts)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4, msg=str(poison))


@pytest.mark.parametrize("form", [Form.INT8, Form.INT4])
def test_quantized_products_mix_no_rows(form: Form, tiny: Callable[..., Any]) -> None:
    runner = make(tiny, "llama", form)
    expected = beside(runner, None, (5, 3))
    for poison in POISONS:
        assert torch.equal(beside(runner, poison, (5, 3)), expected), poison


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pages_that_held_poison_are_clean_for_the_next(
    architecture: str, tiny: Callable[..., Any]
) -> None:
    runner = make(tiny, architecture)
    expected = beside(runner, None, (5, 3))
    bad = runner.pages.add_row()
    for position in range(0, 64, 8):  # every page, as keys and values
        poison = torch.full((8, 64), float("nan"))
        runner.run([RowStep(bad, position, 8)], poison)
    runner.pages.remove_row(bad)
    assert torch.equal(beside(runner, None, (5, 3)), expected)
