import pytest

from swarm.checkpoint.layout import make_layout, renumbered
from swarm.errors import ConfigError


def names(*patterns: str, blocks: int = 3) -> list[str]:
    return [
        pattern.replace("#", str(index))
        for pattern in patterns
        for index in range(blocks if "#" in pattern else 1)
    ]


def text_view(stored: list[str], *, nested: bool, blocks: int = 3) -> tuple[list[str], list[str]]:
    layout = make_layout(stored, blocks, nested=nested, where="m")
    first = [layout.text_names[name] for name in layout.blocks[0]]
    return first, [layout.text_names[name] for name in layout.ends]


@pytest.mark.parametrize(
    ("block", "ends"),
    [
        ("model.layers.#.mlp.w", ["lm_head.weight", "model.embed_tokens.weight"]),
        ("transformer.h.#.attn.w", ["transformer.wte.weight"]),
        ("h.#.attn.w", ["ln_f.weight", "wte.weight"]),
        ("transformer.blocks.#.ffn.w", ["transformer.norm_f.weight"]),
        ("gpt_neox.layers.#.mlp.w", ["embed_out.weight", "gpt_neox.embed_in.weight"]),
    ],
)
def test_plain_text_models_keep_their_names(block: str, ends: list[str]) -> None:
    first, found_ends = text_view([*names(block), *ends], nested=False)
    assert first == [block.replace("#", "0")]
    assert found_ends == ends


@pytest.mark.parametrize(
    ("prefix", "head", "vision"),
    [
        ("language_model.model.", "language_model.lm_head.weight", "vision_tower.encoder"),
        ("model.language_model.", "lm_head.weight", "model.vision_tower.encoder"),
        ("model.text_model.", "lm_head.weight", "model.vision_model.encoder"),
        ("thinker.model.", "thinker.lm_head.weight", "thinker.visual"),
        ("model.", "lm_head.weight", "visual"),
        ("model.", "lm_head.weight", "model.visual"),
    ],
)
def test_the_text_part_of_a_larger_model_is_taken_out(prefix: str, head: str, vision: str) -> None:
    stored = names(
        f"{prefix}layers.#.mlp.w",
        f"{prefix}embed_tokens.weight",
        f"{prefix}norm.weight",
        head,
        f"{vision}.layers.#.w",  # as many layers as the text model: only its name tells
        f"{vision}.blocks.#.w",
        f"{vision}.patch_embed.weight",
        "multi_modal_projector.linear.weight",
    )
    first, ends = text_view(stored, nested=True)
    assert first == ["model.layers.0.mlp.w"]
    assert sorted(ends) == ["lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"]


def test_prediction_extras_belong_to_neither_part() -> None:
    extras = ["mtp.layers.0.w", "mtp.fc.weight"]
    stored = [*names("model.layers.#.w", blocks=4), *extras, "lm_head.w"]
    layout = make_layout(stored, 3, nested=False, where="m")
    assert layout.blocks == (
        ("model.layers.0.w",),
        ("model.layers.1.w",),
        ("model.layers.2.w",),
    )
    assert layout.ends == ("lm_head.w",)


def test_the_run_of_exactly_as_many_blocks_is_preferred() -> None:
    stored = [*names("a.layers.#.w", blocks=5), *names("decoder.layers.#.w", blocks=3)]
    layout = make_layout(stored, 3, nested=True, where="m")
    assert layout.blocks[0] == ("decoder.layers.0.w",)


def test_too_few_blocks_say_what_was_found() -> None:
    with pytest.raises(ConfigError, match=r"shop: no run of 4 blocks.*model\.layers \(3\)"):
        make_layout(names("model.layers.#.w"), 4, nested=False, where="shop")


def test_renumbering_touches_the_block_index_alone() -> None:
    name = "model.layers.12.mlp.experts.12.w1.weight"
    assert renumbered(name, 12) == "model.layers.0.mlp.experts.12.w1.weight"
    assert renumbered("h.7.attn.bias", 5) == "h.2.attn.bias"
