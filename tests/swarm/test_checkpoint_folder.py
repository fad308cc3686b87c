import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MixtralConfig,
    MixtralForCausalLM,
)

from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.errors import ConfigError


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def expected_blocks(folder: Path, start: int, end: int) -> dict[str, torch.Tensor]:
    result = {}
    for name, tensor in stored(folder).items():
        parts = name.split(".")
        if parts[1] == "layers" and start <= int(parts[2]) < end:
            parts[2] = str(int(parts[2]) - start)
            result[".".join(parts)] = tensor
    return result


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def opened(folder: Path, tmp_path: Path) -> Checkpoint:
    return open_checkpoint(str(folder), cache_dir=tmp_path / "cache")


@pytest.fixture(params=["single", "sharded"])
def folder(request: pytest.FixtureRequest, single_folder: Path, sharded_folder: Path) -> Path:
    return single_folder if request.param == "single" else sharded_folder


def test_describes_the_model(folder: Path, tmp_path: Path) -> None:
    checkpoint = opened(folder, tmp_path)
    assert (checkpoint.name, checkpoint.num_blocks) == ("tiny", 5)
    assert (checkpoint.hidden_size, checkpoint.context_length) == (32, 256)
    assert checkpoint.config.num_hidden_layers == 5
    block = expected_blocks(folder, 2, 3)
    assert checkpoint.block_bytes == sum(tensor.nbytes for tensor in block.values())
    assert checkpoint.bytes_read == 0


@pytest.mark.parametrize(("start", "end"), [(0, 1), (2, 4), (4, 5), (0, 5)])
def test_a_span_is_its_slice_and_nothing_else(
    folder: Path, tmp_path: Path, start: int, end: int
) -> None:
    checkpoint = opened(folder, tmp_path)
    state = checkpoint.load_blocks(start, end, torch.float32)
    wanted = expected_blocks(folder, start, end)
    assert_same(state, wanted)
    assert checkpoint.bytes_read == sum(tensor.nbytes for tensor in wanted.values())
    total = sum(tensor.nbytes for tensor in stored(folder).values())
    assert checkpoint.bytes_read <= total * (end - start) / 5


def test_ends_are_all_that_is_no_block(folder: Path, tmp_path: Path) -> None:
    checkpoint = opened(folder, tmp_path)
    ends = checkpoint.load_ends(torch.float32)
    whole = stored(folder)
    assert_same(ends, {name: t for name, t in whole.items() if ".layers." not in name})
    blocks = checkpoint.load_blocks(0, 5, torch.float32)
    assert len(blocks) + len(ends) == len(whole)
    assert checkpoint.bytes_read == sum(tensor.nbytes for tensor in whole.values())


def test_floats_are_cast_and_integers_are_not(single_folder: Path, tmp_path: Path) -> None:
    folder = copytree(single_folder, tmp_path / "ints")
    state = stored(folder)
    state["model.layers.1.table"] = torch.arange(5, dtype=torch.int16)
    save_file(state, folder / "model.safetensors")
    found = opened(folder, tmp_path).load_blocks(1, 2, torch.bfloat16)
    assert found["model.layers.0.table"].tolist() == [0, 1, 2, 3, 4]
    assert found["model.layers.0.table"].dtype == torch.int16
    weight = "model.layers.{}.mlp.up_proj.weight"
    assert torch.equal(found[weight.format(0)], state[weight.format(1)].to(torch.bfloat16))


def test_writing_to_a_tensor_does_not_change_the_file(single_folder: Path, tmp_path: Path) -> None:
    before = (single_folder / "model.safetensors").read_bytes()
    with opened(single_folder, tmp_path) as checkpoint:
        state = checkpoint.load_blocks(0, 1, torch.float32)
    for tensor in state.values():  # also: they outlive the checkpoint
        tensor.fill_(9.0)
    assert (single_folder / "model.safetensors").read_bytes() == before


def test_tensors_at_odd_offsets_load(tmp_path: Path, single_folder: Path) -> None:
    folder = copytree(single_folder, tmp_path / "odd")
    state = stored(folder)
    header: dict[str, Any] = {}
    data = b"\0"
    for name, tensor in state.items():
        begin = len(data)
        data += tensor.numpy().tobytes()
        shape = list(tensor.shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    raw = json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    found = opened(folder, tmp_path).load_blocks(3, 5, torch.float32)
    assert_same(found, expected_blocks(single_folder, 3, 5))
    assert all(tensor.data_ptr() % 4 == 0 for tensor in found.values())


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 3), (4, 6), (3, 1)])
def test_a_span_outside_the_model_is_refused(
    single_folder: Path, tmp_path: Path, start: int, end: int
) -> None:
    with pytest.raises(ConfigError, match=f"tiny has blocks 0:5, not {start}:{end}"):
        opened(single_folder, tmp_path).load_blocks(start, end, torch.float32)


def test_mixtral_blocks_feed_the_transformers_loader(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = MixtralConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=3,
        vocab_size=40,
        max_position_embeddings=64,
    )
    model = MixtralForCausalLM(config)
    folder = tmp_path / "mixtral"
    model.save_pretrained(folder, max_shard_size="20KB")
    checkpoint = opened(folder, tmp_path)
    state = checkpoint.load_blocks(1, 3, torch.float32)
    assert_same(state, expected_blocks(folder, 1, 3))
    span_config = deepcopy(checkpoint.config)
    span_config.num_hidden_layers = 2
    span = AutoModel.from_config(span_config)
    loaded, report = type(span).from_pretrained(
        None, config=span_config, state_dict=state, output_loading_info=True
    )
    assert {name for name in report["missing_keys"] if "layers" in name} == set()
    assert not report["unexpected_keys"]
    for index in range(2):
        want = model.model.layers[index + 1].state_dict()
        assert_same(loaded.layers[index].state_dict(), want)


def test_the_text_part_of_a_llava_loads_alone(tiny_llama: Any, tmp_path: Path) -> None:
    vision = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=5,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    config = LlavaConfig(text_config=tiny_llama.config, vision_config=vision, image_token_index=5)
    model = LlavaForConditionalGeneration(config)
    folder = tmp_path / "llava"
    model.save_pretrained(folder)
    checkpoint = opened(folder, tmp_path)
    assert checkpoint.config.model_type == "llama"
    state = checkpoint.load_blocks(0, 5, torch.float32) | checkpoint.load_ends(torch.float32)
    _, report = AutoModelForCausalLM.from_config(checkpoint.config).from_pretrained(
        None, config=checkpoint.config, state_dict=state, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    text = model.model.language_model.layers[4].mlp.up_proj.weight
    assert torch.equal(state["model.layers.4.mlp.up_proj.weight"], text)


def test_tokenizer_and_generation_config(single_folder: Path, tmp_path: Path) -> None:
    checkpoint = opened(single_folder, tmp_path)
    tokenizer = checkpoint.tokenizer()
    assert tokenizer.encode("blue sky") == [3, 4]
    assert checkpoint.tokenizer() is tokenizer
    assert checkpoint.generation_config().eos_token_id == 2
    (copy := copytree(single_folder, tmp_path / "c")).joinpath("generation_config.json").unlink()
    assert opened(copy, tmp_path).generation_config().eos_token_id == 2


def test_a_damaged_tokenizer_is_a_config_error(single_folder: Path, tmp_path: Path) -> None:
    folder = copytree(single_folder, tmp_path / "mute")
    (folder / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ConfigError, match="mute: its tokenizer cannot be loaded"):
        opened(folder, tmp_path).tokenizer()


def test_fingerprint_follows_contents_not_places(single_folder: Path, tmp_path: Path) -> None:
    first = opened(single_folder, tmp_path).fingerprint
    assert len(first) == 32 and int(first, 16)
    copy = copytree(single_folder, tmp_path / "elsewhere")
    config = json.loads((copy / "config.json").read_text())
    config |= {"transformers_version": "9.9", "_name_or_path": "x", "dtype": "float16"}
    (copy / "config.json").write_text(json.dumps(config, indent=7))
    assert opened(copy, tmp_path).fingerprint == first
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert opened(copy, tmp_path).fingerprint != first


def test_fingerprint_notices_one_changed_weight_byte(single_folder: Path, tmp_path: Path) -> None:
    copy = copytree(single_folder, tmp_path / "copy")
    first = opened(copy, tmp_path).fingerprint
    path = copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert opened(copy, tmp_path).fingerprint != first


class Recorder:
    def __init__(self) -> None:
        self.waits: list[list[Any]] = []

    def start(self, total_bytes: int, what: str) -> None:
        self.waits.append([what, total_bytes, 0])

    def advance(self, n: int) -> None:
        self.waits[-1][2] += n

    def finish(self) -> None:
        self.waits[-1].append("finished")


def test_weights_are_hashed_once_and_told_about(single_folder: Path, tmp_path: Path) -> None:
    size = (single_folder / "model.safetensors").stat().st_size
    first, second = Recorder(), Recorder()
    for recorder in (first, second):
        open_checkpoint(str(single_folder), cache_dir=tmp_path / "cache", progress=recorder)
    assert first.waits == [["checking model.safetensors", size, size, "finished"]]
    assert second.waits == []


def test_a_blob_of_the_hugging_face_cache_is_not_hashed(
    single_folder: Path, tmp_path: Path
) -> None:
    import hashlib

    snapshot = copytree(single_folder, tmp_path / "snapshots" / "abc")
    content = (snapshot / "model.safetensors").read_bytes()
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    blob = blobs / hashlib.sha256(content).hexdigest()
    (snapshot / "model.safetensors").rename(blob)
    (snapshot / "model.safetensors").symlink_to(blob)
    recorder = Recorder()
    found = open_checkpoint(str(snapshot), cache_dir=tmp_path / "cache", progress=recorder)
    assert recorder.waits == []
    assert found.fingerprint == opened(single_folder, tmp_path).fingerprint


def test_a_missing_shard_is_named(sharded_folder: Path, tmp_path: Path) -> None:
    folder = copytree(sharded_folder, tmp_path / "holes")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ConfigError, match=f"index.json: it names {shard.name}, which is not"):
        opened(folder, tmp_path)


def test_a_shard_without_a_promised_tensor_is_named(sharded_folder: Path, tmp_path: Path) -> None:
    folder = copytree(sharded_folder, tmp_path / "wrong")
    shards = sorted(folder.glob("*.safetensors"))
    shards[1].write_bytes(shards[0].read_bytes())
    with pytest.raises(ConfigError, match=rf"{shards[1].name}: tensor '.*' of the index is not"):
        opened(folder, tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "is not JSON"), ("[]", "not a JSON object"), ("{}", "no weight_map")],
)
def test_a_damaged_index_is_named(
    sharded_folder: Path, tmp_path: Path, content: str, complaint: str
) -> None:
    folder = copytree(sharded_folder, tmp_path / "bad")
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ConfigError, match=rf"index\.json: .*{complaint}"):
        opened(folder, tmp_path)


def test_an_index_cannot_point_outside_the_folder(sharded_folder: Path, tmp_path: Path) -> None:
    folder = copytree(sharded_folder, tmp_path / "evil")
    index = folder / "model.safetensors.index.json"
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(ConfigError, match=r"it names \.\./secret\.safetensors, which is not"):
        opened(folder, tmp_path)


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("pytorch_model.bin", "only pickled .bin files"),
        ("q4.gguf", "give its path"),
        ("notes.md", "nor any other weights"),
    ],
)
def test_a_folder_without_safetensors_says_what_it_has(
    single_folder: Path, tmp_path: Path, file: str, complaint: str
) -> None:
    folder = copytree(single_folder, tmp_path / "other")
    (folder / "model.safetensors").rename(folder / file)
    with pytest.raises(ConfigError, match=f"other: .*no safetensors files.*{complaint}"):
        opened(folder, tmp_path)


def test_a_single_file_of_any_name_is_found(single_folder: Path, tmp_path: Path) -> None:
    folder = copytree(single_folder, tmp_path / "named")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    found = opened(folder, tmp_path).load_blocks(0, 2, torch.float32)
    assert_same(found, expected_blocks(single_folder, 0, 2))
    (folder / "more.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"more\.safetensors, weights\.safetensors"):
        opened(folder, tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "method 'gptq'"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": 3}}, "block_size 3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers 0"),
        ({"model_type": "nobody-knows"}, "nobody-knows"),
        ({"num_hidden_layers": 6}, r"no run of 6 blocks .* model\.layers \(5\)"),
    ],
)
def test_a_config_that_cannot_be_used_says_why(
    single_folder: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    folder = copytree(single_folder, tmp_path / "strange")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ConfigError, match=complaint):
        opened(folder, tmp_path)


def test_code_that_comes_with_a_model_is_not_run(single_folder: Path, tmp_path: Path) -> None:
    folder = copytree(single_folder, tmp_path / "evil")
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError):
        opened(folder, tmp_path)
    assert not ran.exists()


@pytest.mark.parametrize("model", ["no-such-folder", "./a/b/c", "/nowhere/x", "", "a/b/c", "../x"])
def test_a_wrong_name_says_what_was_tried(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_checkpoint(model, cache_dir=tmp_path)
    assert model in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"neither a folder nor a \.gguf file"):
        open_checkpoint(str(tmp_path / "model.safetensors"), cache_dir=tmp_path)


def test_importing_the_package_does_not_import_the_heavy_libraries() -> None:
    code = (
        "import sys, swarm.checkpoint; "
        "print([m for m in ('torch', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
