"""How many blocks and positions a peer takes of free memory."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig

from swarm.forms import Form
from swarm.peer.blocks import block_bytes
from swarm.peer.capacity import KV_SHARE, WEIGHTS_SHARE, Holding, Needs
from swarm.peer.kv_cache import LayerGeometry
from swarm.peer.outline import geometry

MB = 10**6


def config(kind: str, **fields):
    return AutoConfig.for_model(
        kind,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=1000,
        **fields,
    )


def test_shares_are_those_that_a_peer_takes():
    needs = Needs(num_blocks=10, block_bytes=100 * MB, position_bytes=1000)
    held = needs.holding(1000 * MB, 32)
    assert held.blocks == 1000 * WEIGHTS_SHARE // 100
    kv_bytes = (1000 * MB - held.blocks * 100 * MB) * KV_SHARE
    assert held.positions == kv_bytes // (held.blocks * 1000 * 32) * 32
    assert held.machines(10) == 2


def test_no_more_than_the_model_and_no_part_of_a_block():
    needs = Needs(num_blocks=3, block_bytes=100 * MB, position_bytes=1000)
    assert needs.holding(10**12, 32).blocks == 3
    assert needs.holding(142 * MB, 32) == Holding(0, 0)
    assert Holding(0, 0).machines(3) == 0


def test_a_whole_model_leaves_its_room_to_keys_and_values():
    needs = Needs(num_blocks=3, block_bytes=100 * MB, position_bytes=1000)
    small, large = (needs.holding(free * MB, 32).positions for free in (600, 1200))
    assert large == pytest.approx(small * 3, rel=0.01), "what is left counts, not what is free"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("llama", {"head_dim": 16}),
        (
            "qwen3_moe",
            {
                "head_dim": 16,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 32,
            },
        ),
        ("gpt_oss", {"head_dim": 16, "num_local_experts": 4}),
    ],
)
def test_what_blocks_keep_is_found_without_weights(kind, fields):
    assert geometry(config(kind, **fields)) == (LayerGeometry(2, 16, 16),) * 3


def test_layers_of_several_kinds_are_told_apart():
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    model = config("gemma3_text", head_dim=16, layer_types=kinds, sliding_window=8)
    assert geometry(model) == (LayerGeometry(2, 16, 16),) * 3
    dense_first = AutoConfig.for_model(
        "deepseek_v3",
        **{"hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32},
        **{"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4},
        **{"n_routed_experts": 8, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2},
        **{"kv_lora_rank": 16, "q_lora_rank": 16, "first_k_dense_replace": 1},
        **{"qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16, "vocab_size": 100},
    )
    assert geometry(dense_first) == (LayerGeometry(4, 24, 16),) * 3


def test_needs_in_several_forms():
    model = config("llama", head_dim=16)
    blocks = {form: block_bytes(model, torch.bfloat16, form) for form in (Form.NONE, Form.INT8)}
    needs = Needs.of(model, torch.bfloat16, blocks)
    assert needs[Form.NONE] == Needs(3, blocks[Form.NONE], 2 * 2 * 16 * 2)
    assert needs[Form.INT8].block_bytes < needs[Form.NONE].block_bytes
