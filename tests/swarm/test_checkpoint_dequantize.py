import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.dequantize import from_fp8, from_mxfp4
from swarm.errors import ConfigError

FP8 = torch.float8_e4m3fn


def quantized(weight: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = weight.shape
    grid = (-(-rows // block), -(-columns // block))
    scales = torch.empty(grid)
    result = torch.empty(weight.shape, dtype=FP8)
    for i in range(grid[0]):
        for j in range(grid[1]):
            place = (slice(i * block, (i + 1) * block), slice(j * block, (j + 1) * block))
            scales[i, j] = weight[place].abs().max() / 448
            result[place] = (weight[place] / scales[i, j]).to(FP8)
    return result, scales


@pytest.mark.parametrize(
    ("shape", "block"), [((256, 128), 128), ((200, 384), 128), ((576, 1536), 128), ((48, 32), 16)]
)
def test_fp8_blocks_give_the_weight_back(shape: tuple[int, int], block: int) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    weight *= torch.arange(shape[0])[:, None] + 1  # blocks differ in scale
    packed, scales = quantized(weight, block)
    state = {"a.weight": packed, "a.weight_scale_inv": scales, "n.weight": torch.ones(3)}
    plain = from_fp8(state, torch.float32, [block, block], "m")
    assert plain.keys() == {"a.weight", "n.weight"}
    assert torch.allclose(plain["a.weight"], weight, rtol=0.07, atol=float(weight.max()) / 400)


def test_fp8_with_one_scale_per_tensor() -> None:
    packed = torch.tensor([[1.0, -2.0]]).to(FP8)
    state = {"a.weight": packed, "a.weight_scale_inv": torch.tensor(0.5)}
    assert from_fp8(state, torch.bfloat16, None, "m")["a.weight"].tolist() == [[0.5, -1.0]]


@pytest.mark.parametrize(
    ("scales", "complaint"),
    [(None, "m: a.weight has 8 bits but no"), (torch.ones(7, 1), "7 scales do not fit its 9")],
)
def test_fp8_without_fitting_scales_is_refused(scales: Any, complaint: str) -> None:
    state = {"a.weight": torch.ones(9, 4).to(FP8)}
    if scales is not None:
        state["a.weight_scale_inv"] = scales
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        from_fp8(state, torch.float32, [2, 2], "m")


def test_mxfp4_agrees_with_transformers() -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    random = torch.Generator().manual_seed(2)
    blocks = torch.randint(0, 256, (3, 10, 2, 16), generator=random, dtype=torch.uint8)
    scales = torch.randint(115, 130, (3, 10, 2), generator=random, dtype=torch.uint8)
    bias = torch.ones(3, 10)
    state = {"e.up_blocks": blocks, "e.up_scales": scales, "e.up_bias": bias}
    plain = from_mxfp4(state, torch.bfloat16, "m")
    assert plain.keys() == {"e.up", "e.up_bias"}
    wanted = convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16)
    assert plain["e.up"].shape == wanted.shape
    assert torch.equal(plain["e.up"], wanted)


def test_an_fp8_folder_loads_like_the_plain_one(single_folder: Path, tmp_path: Path) -> None:
    folder = copytree(single_folder, tmp_path / "fp8")
    state = {}
    for name, tensor in load_file(single_folder / "model.safetensors").items():
        state[name] = tensor
        if name.endswith("_proj.weight"):
            state[name], state[name + "_scale_inv"] = quantized(tensor, 16)
    save_file(state, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = open_checkpoint(str(folder), cache_dir=tmp_path / "cache")
    plain = open_checkpoint(str(single_folder), cache_dir=tmp_path / "cache")
    assert not hasattr(checkpoint.config, "quantization_config")
    assert checkpoint.fingerprint != plain.fingerprint
    found = checkpoint.load_blocks(1, 3, torch.float32)
    wanted = plain.load_blocks(1, 3, torch.float32)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.allclose(found[name], tensor, rtol=0.07, atol=1e-3), name
    assert checkpoint.block_bytes < plain.block_bytes / 3
    checkpoint.config.num_hidden_layers = 2
    _, report = AutoModel.from_config(checkpoint.config).from_pretrained(
        None, config=checkpoint.config, state_dict=found, output_loading_info=True
    )
    assert not report["unexpected_keys"]
