"""Spans behind one another give the hidden states of the whole model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from swarm.errors import ConfigError, LocalProtocolError
from swarm.forms import Form
from swarm.kernels import library
from swarm.peer.attention import BatchPlan
from swarm.peer.blocks import load_span
from swarm.peer.kv_cache import page_bytes
from swarm.peer.pages import PageShortage
from swarm.peer.runner import RowStep, Runner

CPU = torch.device("cpu")

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 8},
    "gemma2": {"sliding_window": 8},
    "gemma3_text": {
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "phi3": {},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    "gpt_neox": {},
    "olmo2": {},
    "stablelm": {},
    "cohere2": {"sliding_window": 8},
    "glm4": {},
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "head_dim": 8,
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 12,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 1,
    },
    "gemma4_text": {
        "hidden_size_per_layer_input": 0,
        "global_head_dim": 32,
        "num_kv_shared_layers": 0,
        "sliding_window": 8,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
    },
}


@dataclass(frozen=True)
class Text:
    """A row of three runners, one for each span, and what it should give."""

    embedded: torch.Tensor
    expected: list[torch.Tensor]


def _text(checkpoint: Any, length: int, seed: int, cuts: tuple[int, ...]) -> Text:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 300, (1, length), generator=generator)
    last: list[torch.Tensor] = []
    layers = checkpoint.model.base_model.layers
    hook = layers[-1].register_forward_hook(
        lambda _, __, out: last.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        states = checkpoint.model(ids, output_hidden_states=True).hidden_states
    hook.remove()
    return Text(states[0][0], [*(states[cut][0] for cut in cuts), last[0][0]])


def _run_all(
    runners: list[Runner], texts: list[Text], pieces: list[tuple[int, int, int]], rows: list[Any]
) -> list[torch.Tensor]:
    """Each span's output of one batch of `pieces` (text, position, count)."""
    hidden = torch.cat([texts[i].embedded[p : p + n] for i, p, n in pieces])
    outs = []
    for runner, own in zip(runners, rows, strict=True):
        hidden = runner.run([RowStep(own[i], p, n) for i, p, n in pieces], hidden)
        outs.append(hidden)
    return outs


BATCHES = [
    [(0, 0, 10)],
    [(0, 10, 10), (1, 0, 3)],
    [(1, 3, 10), (0, 20, 1), (2, 0, 1)],
    [(2, 1, 1), (0, 21, 3), (1, 13, 0)],
    [(0, 12, 5), (1, 13, 1), (2, 2, 9)],  # text 0 rolls back, mid-page
    [(0, 17, 1), (1, 14, 1), (2, 11, 1)],
    [(1, 0, 2), (0, 18, 6)],
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_spans_equal_the_whole_model(architecture: str, tiny: Callable[..., Any]) -> None:
    checkpoint = tiny(architecture, **ARCHITECTURES[architecture])
    spans = [
        load_span(checkpoint, start, end, device=CPU, dtype=torch.float32)
        for start, end in ((0, 1), (1, 3), (3, 4))
    ]
    runners = [Runner(span, num_pages=24, page_len=4) for span in spans]
    texts = [_text(checkpoint, 24, seed, (1, 3)) for seed in range(3)]
    rows = [[runner.pages.add_row() for _ in texts] for runner in runners]
    for pieces in BATCHES:
        outs = _run_all(runners, texts, pieces, rows)
        for index, out in enumerate(outs):
            expected = torch.cat([texts[i].expected[index][p : p + n] for i, p, n in pieces])
            torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    for runner in runners:
        runner.check()


needs_kernels = pytest.mark.skipif(library() is None, reason="installed without a C compiler")

RECOGNIZED = ["llama", "qwen2", "qwen3", "mistral", "gemma2", "phi3", "olmo2"]


@needs_kernels
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_program_is_there_where_blocks_are_known(
    architecture: str, tiny: Callable[..., Any]
) -> None:
    runner = _runner(tiny(architecture, **ARCHITECTURES[architecture]))
    runner.check()
    assert runner.has_program == (architecture in RECOGNIZED)


@needs_kernels
@pytest.mark.parametrize("form", [Form.INT8, Form.INT4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_in_fewer_bits_have_programs(
    form: Form, dtype: torch.dtype, tiny: Callable[..., Any]
) -> None:
    """Else `check` would have given the program up: it compares it with the blocks' own code."""
    runner = _runner(tiny("llama", intermediate_size=128), dtype=dtype, form=form)
    runner.check()
    assert runner.has_program


@needs_kernels
def test_a_program_that_differs_from_the_model_is_given_up(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny("granite", residual_multiplier=0.5)
    runner = _runner(checkpoint)
    assert runner.has_program  # its children are those of a plain block
    runner.check()
    assert not runner.has_program


@needs_kernels
def test_queries_that_grow_with_the_position_are_left_to_the_model(
    tiny: Callable[..., Any],
) -> None:
    """Near the start, where the program is compared with the model, they do not."""
    rope = {
        "rope_type": "default",
        "rope_theta": 1e4,
        "llama_4_scaling_beta": 0.1,
        "original_max_position_embeddings": 16384,
    }
    assert not _runner(tiny("ministral3", rope_parameters=rope)).has_program
    still = rope | {"llama_4_scaling_beta": 0.0}
    assert _runner(tiny("ministral3", rope_parameters=still)).has_program


@needs_kernels
def test_threads_change_nothing(tiny: Callable[..., Any]) -> None:
    runner = _runner(tiny("qwen3"), dtype=torch.bfloat16)
    hidden = torch.randn(5, runner.span.hidden_size, dtype=torch.bfloat16)
    a, b = runner.pages.add_row(), runner.pages.add_row()
    alone = runner.run([RowStep(a, 0, 5)], hidden)
    torch.set_num_threads(3)
    try:
        together = runner.run([RowStep(b, 0, 5)], hidden)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(alone, together)


@needs_kernels
def test_a_program_gives_a_position_the_same_bits_alone_and_with_others(
    tiny: Callable[..., Any],
) -> None:
    """What speculation and batching must not change."""
    runner = _runner(tiny("llama"), dtype=torch.bfloat16)
    hidden = torch.randn(14, runner.span.hidden_size, dtype=torch.bfloat16)
    a, b, c = (runner.pages.add_row() for _ in range(3))
    alone = [runner.run([RowStep(a, at, 1)], hidden[at : at + 1]) for at in range(14)]
    at_once = runner.run([RowStep(b, 0, 9)], hidden[:9])
    beside = runner.run([RowStep(c, 0, 3), RowStep(b, 9, 5)], torch.cat([hidden[:3], hidden[9:]]))
    assert torch.equal(torch.cat(alone), torch.cat([at_once, beside[3:]]))
    assert torch.equal(beside[:3], at_once[:3])


@needs_kernels
def test_a_program_does_not_mind_another_models_load(tiny: Callable[..., Any]) -> None:
    """While some thread loads a model, its number type is the default of the whole process."""
    runner = _runner(tiny("qwen2"))
    hidden = torch.randn(1, runner.span.hidden_size)
    a, b = runner.pages.add_row(), runner.pages.add_row()
    expected = runner.run([RowStep(a, 0, 1)], hidden)
    torch.set_default_dtype(torch.bfloat16)
    try:
        fresh = Runner(runner.span, num_pages=8, page_len=4)
        got = [
            each.run([RowStep(row, 0, 1)], hidden)
            for each, row in ((runner, b), (fresh, fresh.pages.add_row()))
        ]
    finally:
        torch.set_default_dtype(torch.float32)
    assert fresh.has_program
    assert all(torch.equal(each, expected) for each in got)


@needs_kernels
def test_a_program_goes_on_where_torch_has_been_and_back(tiny: Callable[..., Any]) -> None:
    """Long chunks run through torch, short ones through the program, on the same pages."""
    runner = _runner(tiny("mistral", sliding_window=8), num_pages=400)
    hidden = torch.randn(700, runner.span.hidden_size)
    a, b = runner.pages.add_row(), runner.pages.add_row()
    whole = runner.run([RowStep(a, 0, 700)], hidden)
    pieces, at = [], 0
    for count in (300, 1, 16, 3, 20, 1, 340, 19):
        pieces.append(runner.run([RowStep(b, at, count)], hidden[at : at + count]))
        at += count
    torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-4, rtol=1e-4)


def _runner(
    checkpoint: Any,
    *,
    num_pages: int = 24,
    dtype: torch.dtype = torch.float32,
    form: Form = Form.NONE,
) -> Runner:
    span = load_span(checkpoint, 0, 4, device=CPU, dtype=dtype, form=form)
    return Runner(span, num_pages=num_pages, page_len=4)


def test_part_of_a_span_runs_alone(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("gemma2", sliding_window=8)
    runner = _runner(checkpoint)
    text = _text(checkpoint, 24, 0, (1, 3))
    rows = [runner.pages.add_row() for _ in range(2)]
    for start, end in ((0, 9), (9, 20), (20, 21), (21, 24)):
        hidden = text.embedded[start:end]
        for blocks, expected in zip(((0, 1), (1, 3), (3, 4)), text.expected, strict=True):
            # Each row has its own blocks; both write the same positions.
            row = rows[blocks[0] % 2]
            hidden = runner.run([RowStep(row, start, end - start)], hidden, blocks)
            torch.testing.assert_close(hidden, expected[start:end], atol=1e-4, rtol=1e-4)


def test_a_copied_row_goes_its_own_way(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("llama")
    runner = _runner(checkpoint)
    text = _text(checkpoint, 16, 0, ())
    original, copy = runner.pages.add_row(), runner.pages.add_row()
    runner.run([RowStep(original, 0, 6)], text.embedded[:6])
    runner.pages.reorder([copy], [original])
    noise = torch.randn(3, 64)
    out = runner.run(
        [RowStep(copy, 5, 3), RowStep(original, 6, 4)], torch.cat([noise, text.embedded[6:10]])
    )
    torch.testing.assert_close(out[3:], text.expected[0][6:10], atol=1e-4, rtol=1e-4)
    again = runner.run([RowStep(copy, 5, 11)], text.embedded[5:])
    torch.testing.assert_close(again, text.expected[0][5:], atol=1e-4, rtol=1e-4)


def test_a_step_that_found_no_page_can_come_again(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("llama")
    runner = _runner(checkpoint, num_pages=5)
    text = _text(checkpoint, 16, 0, ())
    first, other, copy = (runner.pages.add_row() for _ in range(3))
    runner.run([RowStep(first, 0, 6)], text.embedded[:6])
    runner.run([RowStep(other, 0, 5)], text.embedded[:5])
    runner.pages.reorder([copy], [first])
    steps = [RowStep(copy, 6, 1), RowStep(other, 5, 5)]
    hidden = torch.cat([text.embedded[6:7], text.embedded[5:10]])
    with pytest.raises(PageShortage):
        runner.run(steps, hidden)
    runner.pages.remove_row(first)
    out = runner.run(steps, hidden)
    expected = torch.cat([text.expected[0][6:7], text.expected[0][5:10]])
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def test_empty_batches_and_our_own_mistakes(tiny: Callable[..., Any]) -> None:
    runner = _runner(tiny("llama"))
    row = runner.pages.add_row()
    assert runner.run([], torch.empty(0, 64)).shape == (0, 64)
    assert runner.run([RowStep(row, 0, 0)], torch.empty(0, 64)).shape == (0, 64)
    for steps, hidden in (
        ([RowStep(row, 0, 2)], torch.zeros(1, 64)),
        ([RowStep(row, 0, 1)], torch.zeros(1, 65)),
        ([RowStep(row, 0, 1), RowStep(row, 1, 1)], torch.zeros(2, 64)),
        ([RowStep(row, 1, 1)], torch.zeros(1, 64)),
    ):
        with pytest.raises(LocalProtocolError):
            runner.run(steps, hidden)
    runner.close()
    runner.close()


def test_check_notices_wrong_attention(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = _runner(tiny("llama"))
    right = BatchPlan.attend

    def wrong(self: BatchPlan, layer: int, *args: Any) -> torch.Tensor:
        out = right(self, layer, *args)
        return out * 1.5 if layer == 2 else out

    monkeypatch.setattr(BatchPlan, "attend", wrong)
    with pytest.raises(ConfigError, match=r"llama.* results differ"):
        runner.check()
    assert runner.pages.free_pages == 24


@pytest.mark.parametrize("architecture", ["llama", "qwen3_moe", "gpt_oss"])
def test_bfloat16_is_near_float32(architecture: str, tiny: Callable[..., Any]) -> None:
    checkpoint = tiny(architecture, **ARCHITECTURES[architecture])
    runner = _runner(checkpoint, dtype=torch.bfloat16)
    runner.check()
    text = _text(checkpoint, 16, 0, ())
    row = runner.pages.add_row()
    outs = [
        runner.run([RowStep(row, start, end - start)], text.embedded[start:end].bfloat16())
        for start, end in ((0, 9), (9, 10), (10, 16))
    ]
    out = torch.cat(outs).float()
    assert outs[0].dtype == torch.bfloat16
    error = (out - text.expected[0]).norm(dim=-1) / text.expected[0].norm(dim=-1)
    assert float(error.median()) < 0.03


def test_measured_times_and_memory(tiny: Callable[..., Any]) -> None:
    runner = _runner(tiny("llama"), num_pages=40)
    decode_s, prefill_s = runner.measure()
    assert 0 < prefill_s < 1 and 0 < decode_s < 1
    assert runner.pages.free_pages == 40
    # 4 layers, 2 heads, 16 + 16 numbers of 4 bytes
    assert page_bytes(runner.span.geometry, 4, torch.float32) == 4 * 4 * 2 * 32 * 4


@pytest.mark.parametrize("busy", [(0, 1), (0, 2), (2, 3)])
def test_a_moment_in_which_the_machine_is_busy_is_not_how_fast_it_is(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, busy: tuple[int, ...]
) -> None:
    """Prompts were cut for good by one chunk that was measured beside other peers' starting."""
    runner, seen = _runner(tiny("llama"), num_pages=40), Counter[int]()

    def timed(step: RowStep) -> float:
        seen[step.count] += 1
        return step.count * 1e-4 * (5 if seen[step.count] - 1 in busy else 1)

    monkeypatch.setattr(runner, "_timed", timed)
    _, prefill_s = runner.measure()
    assert prefill_s == pytest.approx(1e-4)
    assert 2 <= seen[128] <= 5


def test_a_slow_machine_is_measured_by_few_positions(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, seen = _runner(tiny("llama"), num_pages=40), Counter[int]()

    def timed(step: RowStep) -> float:
        seen[step.count] += 1
        return step.count * 0.01

    monkeypatch.setattr(runner, "_timed", timed)
    _, prefill_s = runner.measure()
    assert prefill_s == pytest.approx(0.01)
    assert seen[32] == 2 and not seen[128]


def test_check_and_measure_say_so_without_memory(tiny: Callable[..., Any]) -> None:
    runner = _runner(tiny("llama"), num_pages=0)
    with pytest.raises(ConfigError, match="memory"):
        runner.check()
    with pytest.raises(ConfigError, match="memory"):
        runner.measure()
