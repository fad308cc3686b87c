from __future__ import annotations

import pytest
import torch

from swarm.checkpoint import open_checkpoint
from swarm.client.head import Head
from swarm.errors import ConfigError

ARCHITECTURES = {
    "llama": {},
    "llama tied": {"tie_word_embeddings": True},
    "qwen2": {"head_dim": "absent"},
    "qwen3": {},
    "mistral": {},
    "gemma2": {"final_logit_softcapping": 5.0},
    "gemma3_text": {},
    "phi3": {"head_dim": "absent"},
    "mixtral": {"num_local_experts": 2},
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1},
    "gpt_neox": {"num_key_value_heads": "absent", "head_dim": "absent"},
}


def whole(model, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What goes into transformers' first block, what comes out of the last, and the logits."""
    seen = {}

    def before(_, args, kwargs):
        seen["in"] = args[0] if args else kwargs["hidden_states"]

    def after(_, args, out):
        seen["out"] = out[0] if isinstance(out, tuple) else out

    layers = model.base_model.layers
    first = layers[0].register_forward_pre_hook(before, with_kwargs=True)
    last = layers[-1].register_forward_hook(after)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    first.remove()
    last.remove()
    return seen["in"][0], seen["out"].reshape(len(ids), -1), logits


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_embeddings_and_logits_are_the_whole_models(make_model, name) -> None:
    folder, model = make_model(name.split()[0], **ARCHITECTURES[name])
    with open_checkpoint(str(folder)) as checkpoint:
        head = Head.load(checkpoint, torch.float32)
    ids = [5, 299, 0, 17, 5, 64]
    first, last, logits = whole(model, ids)
    torch.testing.assert_close(head.embed(torch.tensor(ids)), first, atol=0, rtol=0)
    torch.testing.assert_close(head.logits(last), logits, atol=1e-5, rtol=1e-5)
    assert head.logits(last[:1]).shape == (1, 300) and head.vocab_size == 300
    assert sum(p.numel() for p in head.module.parameters()) <= 2 * 300 * 32 + 64


@pytest.mark.parametrize(
    ("name", "changes", "direct"),
    [
        ("llama", {"tie_word_embeddings": True}, True),
        ("gemma2", {"final_logit_softcapping": 5.0}, False),
        ("cohere", {"logit_scale": 0.0625}, False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_what_changes_nothing_is_left_out(make_model, name, changes, direct, dtype) -> None:
    folder, _ = make_model(name, **changes)
    with open_checkpoint(str(folder)) as checkpoint:
        head = Head.load(checkpoint, dtype)
    assert head.direct is direct
    hidden = torch.randn(5, 32)
    found = head.logits(hidden)
    head.direct = False
    torch.testing.assert_close(found, head.logits(hidden), atol=0, rtol=0)


def test_loading_leaves_the_random_numbers_alone(make_model) -> None:
    folder, _ = make_model("llama")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with open_checkpoint(str(folder)) as checkpoint:
        Head.load(checkpoint, torch.float32)
    assert torch.equal(torch.rand(1), expected)


def test_no_block_is_loaded(make_model) -> None:
    folder, _ = make_model("llama")
    with open_checkpoint(str(folder)) as checkpoint:
        head = Head.load(checkpoint, torch.bfloat16)
    assert not any(".layers." in name for name, _ in head.module.named_parameters())
    assert head.dtype == torch.bfloat16
    hidden = head.embed(torch.tensor([1]))
    assert hidden.dtype == torch.bfloat16 and head.logits(hidden).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("gpt2", {}, "gpt2 changes the embeddings"),
        ("bloom", {}, "bloom changes the embeddings"),
        ("granite", {"embedding_multiplier": 12.0}, "granite changes the embeddings"),
    ],
)
def test_what_cannot_be_split_is_refused(make_model, name, changes, reason) -> None:
    folder, _ = make_model(name, **changes)
    with open_checkpoint(str(folder)) as checkpoint:
        with pytest.raises(ConfigError, match=reason):
            Head.load(checkpoint, torch.float32)
