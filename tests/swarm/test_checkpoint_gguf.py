import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from swarm.checkpoint import Checkpoint, open_checkpoint
from swarm.checkpoint.gguf_grids import read_grid
from swarm.checkpoint.gguf_header import GgufTensor, read_gguf_header
from swarm.cli.demo import demonstration_model
from swarm.errors import ConfigError
from swarm.linear.grid import Grid

HIDDEN, INNER, HEADS, KV_HEADS, BLOCKS, VOCABULARY = 64, 96, 4, 2, 4, 50
GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
KINDS = {
    "attn_v": gguf.GGMLQuantizationType.F16,
    "attn_q": gguf.GGMLQuantizationType.Q4_1,
    "attn_k": gguf.GGMLQuantizationType.Q4_0,
    "ffn_up": gguf.GGMLQuantizationType.Q5_1,
}


def llama() -> LlamaForCausalLM:
    torch.manual_seed(11)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=HIDDEN,
            intermediate_size=INNER,
            num_hidden_layers=BLOCKS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            vocab_size=VOCABULARY,
            max_position_embeddings=128,
        )
    )


def permuted(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """llama.cpp's order of rotary rows: halves of a head interleaved."""
    rows, columns = weight.shape
    split = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows, columns))


def writer(path: Path, architecture: str) -> gguf.GGUFWriter:
    out = gguf.GGUFWriter(path, architecture)
    out.add_block_count(BLOCKS)
    out.add_context_length(128)
    out.add_embedding_length(HIDDEN)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_rope_freq_base(10000.0)
    out.add_tokenizer_model("gpt2")
    words = ["<s>", "</s>", "t", "1", "2", "t1", "t2"]
    out.add_token_list(words + [f"w{index}" for index in range(VOCABULARY - len(words))])
    out.add_token_types([3, 3] + [1] * (VOCABULARY - 2))
    out.add_token_merges(["t 1", "t 2"])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)
    return out


def finish(out: gguf.GGUFWriter) -> None:
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def add(out: gguf.GGUFWriter, name: str, values: np.ndarray[Any, Any]) -> None:
    """Matrices quantized as real files have them, vectors in float32."""
    if values.ndim == 1 or values.shape[-1] % 32:
        out.add_tensor(name, values.astype(np.float32))
        return
    kind = KINDS.get(name.split(".")[-2], gguf.GGMLQuantizationType.Q8_0)
    out.add_tensor(name, gguf.quantize(values.astype(np.float32), kind), raw_dtype=kind)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of four blocks, mostly Q8_0, with an untied head. Tests do not change it."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    out = writer(path, "llama")
    for name, parameter in llama().state_dict().items():
        values = parameter.numpy()
        if name == "model.embed_tokens.weight":
            add(out, "token_embd.weight", values)
        elif name == "model.norm.weight":
            add(out, "output_norm.weight", values)
        elif name == "lm_head.weight":
            add(out, "output.weight", values)
        else:
            _, _, index, *middle, last = name.split(".")
            short = GGUF_NAMES[".".join(middle)]
            if short in ("attn_q", "attn_k"):
                values = permuted(values, HEADS if short == "attn_q" else KV_HEADS)
            add(out, f"blk.{index}.{short}.{last}", values)
    finish(out)
    return path


@pytest.fixture(scope="module")
def reference(small: Path) -> dict[str, torch.Tensor]:
    """What transformers itself reads from the small file."""
    model = AutoModelForCausalLM.from_pretrained(
        small.parent, gguf_file=small.name, dtype=torch.float32
    )
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


def opened(path: Path, tmp_path: Path) -> Checkpoint:
    return open_checkpoint(str(path), cache_dir=tmp_path / "cache")


def stored_bytes(path: Path, wanted: Callable[[str], bool]) -> int:
    return sum(int(t.n_bytes) for t in gguf.GGUFReader(path).tensors if wanted(t.name))


def test_describes_the_model(small: Path, tmp_path: Path) -> None:
    checkpoint = opened(small, tmp_path)
    assert (checkpoint.name, checkpoint.num_blocks) == ("small.gguf", BLOCKS)
    assert (checkpoint.hidden_size, checkpoint.context_length) == (HIDDEN, 128)
    assert checkpoint.config.vocab_size == VOCABULARY
    assert checkpoint.config.tie_word_embeddings is False
    assert checkpoint.config.eos_token_id == 1
    assert checkpoint.block_bytes == stored_bytes(small, lambda name: name.startswith("blk.2."))


def test_says_how_each_weight_is_stored(small: Path, tmp_path: Path) -> None:
    checkpoint = opened(small, tmp_path)
    stored = checkpoint.stored(2, 4, grids=False)
    first = {n: how for n, how in stored.items() if n.startswith("model.layers.0.")}
    assert len(stored) == 2 * len(first)
    assert {n.split(".", 3)[3]: how.bits for n, how in first.items()} == {
        "self_attn.q_proj.weight": 4,
        "self_attn.k_proj.weight": 4,
        "self_attn.o_proj.weight": 8,
        "mlp.gate_proj.weight": 8,
        "mlp.up_proj.weight": 5,
        "mlp.down_proj.weight": 8,
    }
    assert all(how.grid is None for how in stored.values())
    assert checkpoint.bytes_read == 0


@pytest.mark.parametrize("name", ["q_proj", "k_proj"])
def test_rows_that_were_reordered_keep_their_grids(small: Path, tmp_path: Path, name: str) -> None:
    checkpoint = opened(small, tmp_path)
    key = f"model.layers.0.self_attn.{name}.weight"
    weight = checkpoint.load_blocks(1, 2, torch.float32)[key]
    grid = checkpoint.stored(1, 2)[key].grid
    assert grid is not None
    torch.testing.assert_close(on(grid, grid.levels(weight)), weight, atol=1e-6, rtol=0)
    # Numbers that were rounded on the way are recognized all the same.
    assert torch.equal(grid.levels(weight.bfloat16()), grid.levels(weight))


def on(grid: Grid, levels: torch.Tensor) -> torch.Tensor:
    """The numbers that `levels` stand for."""
    groups = levels.unflatten(1, (-1, 32)).float() - 8
    return (groups * grid.scale.unsqueeze(-1) + grid.middle.unsqueeze(-1)).flatten(1)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q4_K"])
def test_a_grid_is_that_of_the_gguf_package(kind: str) -> None:
    tensor_kind = gguf.GGMLQuantizationType[kind]
    numbers, size = gguf.GGML_QUANT_SIZES[tensor_kind]
    raw = np.random.default_rng(0).integers(0, 256, (8, 3 * size), dtype=np.uint8)
    for block in range(0, 3 * size, size):  # scales that are no infinities
        for start in range(0, 2 if kind == "Q4_0" else 4, 2):
            raw[:, block + start + 1] = 0x20 + start
    values = torch.from_numpy(gguf.dequantize(raw, tensor_kind))
    tensor = GgufTensor("t", tensor_kind, (8, 3 * numbers), 0, raw.nbytes)
    grid = read_grid(tensor, raw.tobytes())
    torch.testing.assert_close(on(grid, grid.levels(values)), values)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (1, 3), (0, BLOCKS)])
def test_a_span_is_what_transformers_reads(
    small: Path, reference: dict[str, torch.Tensor], tmp_path: Path, start: int, end: int
) -> None:
    checkpoint = opened(small, tmp_path)
    state = checkpoint.load_blocks(start, end, torch.float32)
    for index in range(start, end):
        for name, tensor in reference.items():
            if name.startswith(stem := f"model.layers.{index}."):
                ours = name.replace(stem, f"model.layers.{index - start}.")
                assert torch.equal(state.pop(ours), tensor), name
    assert state == {}
    inside = {f"blk.{index}" for index in range(start, end)}
    wanted = stored_bytes(small, lambda name: ".".join(name.split(".")[:2]) in inside)
    assert checkpoint.bytes_read == wanted


def test_a_span_is_near_the_model_that_was_written(small: Path, tmp_path: Path) -> None:
    state = opened(small, tmp_path).load_blocks(2, 3, torch.float32)
    for name, tensor in llama().model.layers[2].state_dict().items():
        assert torch.allclose(state[f"model.layers.0.{name}"], tensor, atol=1e-2), name


def test_ends_are_what_transformers_reads(
    small: Path, reference: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    checkpoint = opened(small, tmp_path)
    ends = checkpoint.load_ends(torch.bfloat16)
    assert ends.keys() == {name for name in reference if ".layers." not in name}
    for name, tensor in ends.items():
        assert torch.equal(tensor, reference[name].to(torch.bfloat16))
    assert checkpoint.bytes_read == stored_bytes(small, lambda name: not name.startswith("blk."))


def test_the_config_is_what_transformers_reads(small: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig

    ours = opened(small, tmp_path).config.to_dict()
    theirs = AutoConfig.from_pretrained(small.parent, gguf_file=small.name).to_dict()
    differing = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    assert differing == {"_name_or_path"}


def test_tokenizer_and_generation_config(small: Path, tmp_path: Path) -> None:
    checkpoint = opened(small, tmp_path)
    assert checkpoint.tokenizer().encode("t2t1") == [2, 4, 2, 3]
    assert checkpoint.tokenizer() is checkpoint.tokenizer()
    assert checkpoint.generation_config().eos_token_id == 1


def test_the_vocabulary_is_parsed_once(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = opened(small, tmp_path).tokenizer()

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr("swarm.checkpoint.gguf_source.load_tokenizer", fail)
    again = opened(small, tmp_path).tokenizer()
    assert again.encode("t2t1<s>") == made.encode("t2t1<s>")
    assert again.all_special_ids == made.all_special_ids


def test_the_fingerprint_is_of_the_bytes(small: Path, tmp_path: Path) -> None:
    first = opened(small, tmp_path).fingerprint
    copy = tmp_path / "other-name.gguf"
    content = bytearray(small.read_bytes())
    copy.write_bytes(content)
    assert opened(copy, tmp_path).fingerprint == first
    content[-1] ^= 1
    copy.write_bytes(content)
    assert opened(copy, tmp_path).fingerprint != first


def test_fused_experts_are_what_transformers_reads(tmp_path: Path) -> None:
    experts, width = 3, 768  # transformers takes qwen3moe's expert width to be its default
    random = np.random.default_rng(5)
    path = tmp_path / "moe.gguf"
    out = writer(path, "qwen3moe")
    out.add_expert_count(experts)
    out.add_expert_used_count(2)
    out.add_key_length(16)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, HIDDEN)}
    shapes["output_norm.weight"] = (HIDDEN,)
    for index in range(BLOCKS):
        block = {
            "attn_norm": (HIDDEN,),
            "ffn_norm": (HIDDEN,),
            "attn_q_norm": (16,),
            "attn_k_norm": (16,),
            "attn_q": (HEADS * 16, HIDDEN),
            "attn_k": (KV_HEADS * 16, HIDDEN),
            "attn_v": (KV_HEADS * 16, HIDDEN),
            "attn_output": (HIDDEN, HEADS * 16),
            "ffn_gate_inp": (experts, HIDDEN),
            "ffn_gate_exps": (experts, width, HIDDEN),
            "ffn_up_exps": (experts, width, HIDDEN),
            "ffn_down_exps": (experts, HIDDEN, width),
        }
        shapes |= {f"blk.{index}.{name}.weight": shape for name, shape in block.items()}
    for name, shape in shapes.items():
        add(out, name, random.standard_normal(shape))
    finish(out)
    whole = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32
    ).model.layers[3]
    checkpoint = opened(path, tmp_path)
    state = checkpoint.load_blocks(3, 4, torch.float32)
    wanted = {f"model.layers.0.{name}": tensor for name, tensor in whole.state_dict().items()}
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in wanted.items())
    assert checkpoint.config.tie_word_embeddings is True
    assert checkpoint.load_ends(torch.float32).keys() == {
        "model.embed_tokens.weight",
        "model.norm.weight",
    }


def partial(path: Path, names: dict[str, tuple[int, ...]], architecture: str = "llama") -> Path:
    out = writer(path, architecture)
    for name, shape in names.items():
        out.add_tensor(name, np.zeros(shape, np.float32))
    finish(out)
    return path


def test_a_file_with_a_hole_says_what_lacks(tmp_path: Path) -> None:
    names = {f"blk.{index}.attn_norm.weight": (HIDDEN,) for index in range(BLOCKS)}
    checkpoint = opened(partial(tmp_path / "hole.gguf", names), tmp_path)
    with pytest.raises(ConfigError, match=r"hole\.gguf: .*nothing for model\.layers\.1\.mlp"):
        checkpoint.load_blocks(1, 2, torch.float32)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    names = {f"blk.{index}.attn_norm.weight": (HIDDEN + 1,) for index in range(BLOCKS)}
    checkpoint = opened(partial(tmp_path / "odd.gguf", names), tmp_path)
    with pytest.raises(ConfigError, match=r"odd\.gguf: .*input_layernorm\.weight is \(65,\)"):
        checkpoint.load_blocks(0, 1, torch.float32)


def test_missing_blocks_are_named(tmp_path: Path) -> None:
    path = partial(tmp_path / "few.gguf", {"blk.0.attn_norm.weight": (HIDDEN,)})
    with pytest.raises(ConfigError, match=r"few\.gguf: it has no tensors of blocks \[1, 2, 3\]"):
        opened(path, tmp_path)


def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    path = partial(tmp_path / "new.gguf", {"blk.0.x": (2,)}, "brandnew")
    with pytest.raises(ConfigError, match=r"new\.gguf: .*brandnew"):
        opened(path, tmp_path)


def test_one_part_of_a_split_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "part.gguf"
    out = writer(path, "llama")
    out.add_uint16("split.count", 3)
    finish(out)
    with pytest.raises(ConfigError, match=r"part\.gguf: one of 3 parts"):
        opened(path, tmp_path)


def headers() -> Iterator[tuple[bytes, str]]:
    good = b"GGUF" + struct.pack("<I", 3)
    yield b"", "empty"
    yield b"GGML" + bytes(40), "does not start with GGUF"
    yield b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9"
    yield good + b"\1", "claimed"
    yield good + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 2**60), "claimed"
    yield good + struct.pack("<QQQ", 0, 1, 1) + b"a" + struct.pack("<I", 99), "type 99"
    yield (
        good + struct.pack("<QQQ", 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 8, 2**62),
        "claimed",
    )
    info = struct.pack("<Q", 1) + b"t"
    counts = struct.pack("<QQ", 1, 0)
    yield good + counts + info + struct.pack("<I", 2**31), "dimensions"
    yield good + counts + info + struct.pack("<IQIQ", 1, 4, 77, 0), "77"
    yield good + counts + info + struct.pack("<IQIQ", 1, 2**61, 0, 0), "ends at"
    yield good + counts + info + struct.pack("<IQIQ", 1, 33, 8, 0), "not whole Q8_0 groups"
    twice = info + struct.pack("<IQIQ", 1, 0, 0, 0)
    yield good + struct.pack("<QQ", 2, 0) + twice * 2 + bytes(64), "twice"


@pytest.mark.parametrize(("content", "complaint"), list(headers()))
def test_damaged_headers_name_the_file_and_the_fault(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        opened(path, tmp_path)
    assert "bad.gguf" in str(caught.value)
    assert complaint in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_header_is_accepted_or_refused(
    small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(small.read_bytes())
    whole = len(content)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(100, whole)) :]
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    path.write_bytes(content)
    try:
        header = read_gguf_header(path)
    except ConfigError as error:
        assert "fuzz.gguf" in str(error)
        return
    for tensor in header.tensors.values():
        assert 0 <= tensor.offset <= tensor.offset + tensor.num_bytes <= len(content)


def test_a_span_of_a_real_model(tmp_path: Path) -> None:
    try:
        path = demonstration_model()
    except ConfigError as error:
        pytest.skip(str(error))
    checkpoint = opened(path, tmp_path)
    assert (checkpoint.num_blocks, checkpoint.hidden_size) == (30, 576)
    assert (checkpoint.context_length, checkpoint.config.vocab_size) == (8192, 49152)
    state = checkpoint.load_blocks(12, 14, torch.bfloat16)
    assert checkpoint.bytes_read == 2 * checkpoint.block_bytes < path.stat().st_size / 20
    assert {name.split(".")[2] for name in state} == {"0", "1"}
    assert state["model.layers.1.mlp.down_proj.weight"].shape == (576, 1536)
    assert all(tensor.dtype == torch.bfloat16 for tensor in state.values())
    assert all(tensor.float().abs().max() < 100 for tensor in state.values())
