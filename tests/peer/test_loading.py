"""Spans in fewer bits: loaded in pieces, of the size that was promised, near the plain ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from swarm.forms import Form, Stored
from swarm.peer.blocks import Span, block_bytes, load_span, within_layers
from swarm.peer.loading import load, needed_bytes
from swarm.peer.runner import RowStep, Runner

CPU = torch.device("cpu")


def _load(checkpoint: Any, start: int, end: int, form: Form, **options: Any) -> Span:
    return load(checkpoint, start, end, device=CPU, dtype=torch.float32, form=form, **options)


def _run(span: Span, hidden: torch.Tensor, blocks: tuple[int, int] | None = None) -> torch.Tensor:
    runner = Runner(span, num_pages=16, page_len=8)
    return runner.run([RowStep(runner.pages.add_row(), 0, len(hidden))], hidden, blocks)


def _apart(ours: torch.Tensor, theirs: torch.Tensor, given: torch.Tensor) -> float:
    """How far from each other, as a part of what the blocks add: the median position.

    A position that another expert takes differs a lot.
    """
    apart = (ours - theirs).norm(dim=-1) / (theirs - given).norm(dim=-1)
    return float(apart.median())


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("llama", {}),
        ("qwen2", {}),
        ("phi3", {}),
        ("gemma3_text", {"layer_types": ["sliding_attention", "full_attention"] * 2}),
        ("gpt_neox", {}),
        ("mixtral", {"num_local_experts": 4}),
    ],
)
@pytest.mark.parametrize(("form", "limit"), [(Form.INT8, 0.02), (Form.INT4, 0.2)])
def test_near_plain_and_checked(
    architecture: str,
    settings: dict[str, Any],
    form: Form,
    limit: float,
    tiny: Callable[..., Any],
) -> None:
    checkpoint = tiny(architecture, intermediate_size=128, **settings)
    plain = load_span(checkpoint, 1, 4, device=CPU, dtype=torch.float32)
    ours = _load(checkpoint, 1, 4, form, piece_bytes=0)
    Runner(ours, num_pages=16, page_len=8).check()
    hidden = torch.randn(20, plain.hidden_size, generator=torch.Generator().manual_seed(0))
    assert _apart(_run(ours, hidden), _run(plain, hidden), hidden) < limit


def test_pieces_are_the_span(tiny: Callable[..., Any]) -> None:
    """Layers of different kinds, whose lists in the config must be the whole span's."""
    checkpoint = tiny(
        "gemma3_text",
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    hidden = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    whole = _load(checkpoint, 1, 4, Form.INT8, piece_bytes=1 << 30)
    pieces = _load(checkpoint, 1, 4, Form.INT8, piece_bytes=0)
    assert (pieces.start, pieces.end, pieces.geometry) == (1, 4, whole.geometry)
    torch.testing.assert_close(_run(pieces, hidden), _run(whole, hidden))
    torch.testing.assert_close(_run(pieces, hidden, (2, 4)), _run(whole, hidden, (2, 4)))


def test_plain_weights_exist_a_piece_at_a_time(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny("llama")
    read: list[tuple[int, int]] = []

    class Watched:
        name, config, stored = checkpoint.name, checkpoint.config, checkpoint.stored

        def load_blocks(self, start: int, end: int, dtype: torch.dtype) -> Any:
            read.append((start, end))
            return checkpoint.load_blocks(start, end, dtype)

    size = block_bytes(checkpoint.config, torch.float32)
    for form, blocks, expected in (
        (Form.INT8, 2.5, [0, 2, 4]),
        (Form.INT8, 0.1, [0, 1, 2, 3, 4]),
        (Form.NONE, 0.1, [0, 4]),
    ):
        read.clear()
        _load(Watched(), 0, 4, form, piece_bytes=int(blocks * size))
        assert read == list(pairwise(expected))


def test_what_a_block_needs(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("llama", intermediate_size=128)
    plain, int8, int4 = (
        needed_bytes(checkpoint, torch.bfloat16, form) for form in (Form.NONE, Form.INT8, Form.INT4)
    )
    assert plain == block_bytes(checkpoint.config, torch.bfloat16)
    assert 0.5 < int8 / plain < 0.55
    assert 0.3 < int4 / plain < 0.35


def test_a_file_decides_layer_by_layer(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("llama", intermediate_size=128)

    class Quantized:
        name, config, load_blocks = checkpoint.name, checkpoint.config, checkpoint.load_blocks

        def stored(self, start: int, end: int, *, grids: bool = True) -> dict[str, Stored]:
            names = [f"model.layers.{n}.mlp" for n in range(end - start)]
            return {f"{name}.down_proj.weight": Stored(4) for name in names} | {
                f"{name}.up_proj.weight": Stored(6) for name in names
            }

    kinds = [
        type(each).__name__ for each in _load(Quantized(), 1, 3, Form.FILE).layers[1].mlp.children()
    ]
    assert kinds[0] == "Linear"
    assert kinds[1] in ("Int8Linear", "IntegerLinear")
    assert kinds[2] in ("Int4Rows", "Int4Linear")
    plain = needed_bytes(checkpoint, torch.float32, Form.NONE)
    assert needed_bytes(Quantized(), torch.float32, Form.FILE) < plain
    assert needed_bytes(checkpoint, torch.float32, Form.FILE) == plain


def test_names_within_a_list_of_layers() -> None:
    assert within_layers("model.layers.12.mlp.up_proj.weight") == "12.mlp.up_proj.weight"
    assert within_layers("transformer.h.0.attn.c_attn.weight") == "0.attn.c_attn.weight"
