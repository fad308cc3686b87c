"""What a benchmark makes of its samples, and the models that it makes up."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.progress import Silent
from swarm.client.benchmark import shapes
from swarm.client.benchmark.bandwidth import bytes_per_token
from swarm.client.benchmark.plan import Plan
from swarm.client.benchmark.samples import Samples, StepTime
from swarm.client.benchmark.shapes import SHAPES, Shape, random_model, write_random
from swarm.errors import ConfigError

TINY = Shape("llama", 32, 48, 3, 4, 2, 8, 300)
UNTIED = Shape("qwen3", 32, 48, 2, 4, 2, 8, 300, tie_word_embeddings=False)


def step(whole: float, *compute: float, queue: float = 0.0) -> StepTime:
    return StepTime(whole, 0.002, (queue,) * len(compute), compute)


@pytest.mark.parametrize(
    "values",
    [{"prompt_len": 0}, {"num_tokens": 0}, {"num_rounds": 0}, {"sessions": ()}, {"sessions": (0,)}],
)
def test_a_plan_without_work_is_refused(values):
    with pytest.raises(ConfigError):
        Plan(**values)


def test_a_step_is_split_without_remainder():
    samples = Samples(steps=[step(0.020, 0.005, 0.006, queue=0.001)])
    split = samples.step()
    assert split.wire_ms == pytest.approx(5)
    assert split.overhead_per_hop_ms == pytest.approx(3.5)
    parts = split.compute_ms + split.queue_ms + split.wire_ms + split.client_ms
    assert parts == pytest.approx(split.whole_ms) == pytest.approx(20)
    assert samples.hop_ms() == [pytest.approx((5, 1)), pytest.approx((6, 1))]


def test_medians_bear_one_disturbed_step():
    quiet = [step(0.010, 0.004)] * 4
    assert Samples(steps=[*quiet, step(9.0, 8.9)]).decode_rate == pytest.approx(100)


def test_steps_over_an_older_route_are_left_out():
    samples = Samples(steps=[step(0.5, 0.1), step(0.020, 0.005, 0.006)])
    assert [compute for compute, _ in samples.hop_ms()] == pytest.approx([5, 6])
    assert samples.step().whole_ms == pytest.approx(20)


def test_ratios_are_the_swarm_over_transformers():
    samples = Samples(prefill=[0.5], steps=[step(0.010, 0.004)])
    samples.rates[4] = [250.0, 300.0, 10.0]
    samples.plain_decode, samples.plain_prefill = [0.025], [0.6]
    found = samples.reference(512)
    assert found.decode_ratio == pytest.approx(2.5)
    assert found.prefill_ratio == pytest.approx(1.2)
    assert found.sessions_ratio == {"4": pytest.approx(6.25)}
    assert found.decode_tokens_per_second == pytest.approx(40)


def test_a_token_reads_every_block_and_the_head_once(make_model):
    folder, model = make_model("llama")
    config = AutoConfig.from_pretrained(folder)
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    read = sum(size for name, size in sizes.items() if "embed_tokens" not in name)
    assert bytes_per_token(config, torch.bfloat16, None) == 2 * read
    linear = sum(size for name, size in sizes.items() if name.endswith("proj.weight"))
    assert bytes_per_token(config, torch.bfloat16, "int8") == 2 * read - linear
    assert bytes_per_token(config, torch.bfloat16, "int4") == 2 * read - linear * 3 // 2


def test_a_tied_head_is_read_too(make_model):
    folder, model = make_model("llama", tie_word_embeddings=True)
    config = AutoConfig.from_pretrained(folder)
    # named_parameters names the shared weight once, as an embedding.
    every = sum(weight.numel() for weight in model.parameters())
    assert bytes_per_token(config, torch.float32, None) == 4 * every


def test_experts_are_no_fixed_number_of_bytes(make_model):
    folder, _ = make_model("mixtral", num_local_experts=4)
    assert bytes_per_token(AutoConfig.from_pretrained(folder), torch.float32, None) is None


@pytest.mark.parametrize("shape", [TINY, UNTIED], ids=["tied", "untied"])
def test_random_weights_make_a_model_that_runs(tmp_path, shape):
    folder = tmp_path / "made"
    write_random(folder, shape.config, Silent())
    with open_checkpoint(str(folder), cache_dir=tmp_path) as checkpoint:
        assert checkpoint.num_blocks == shape.num_hidden_layers
        first = checkpoint.fingerprint
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        logits = model(torch.arange(40)[None]).logits
    assert logits.isfinite().all() and logits.std() > 0

    again = tmp_path / "again"
    write_random(again, shape.config, Silent())
    with open_checkpoint(str(again), cache_dir=tmp_path) as checkpoint:
        assert checkpoint.fingerprint == first


def test_a_shape_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", TINY)
    folder = random_model("tiny", tmp_path, Silent())
    monkeypatch.setattr(shapes, "write_random", None)
    assert random_model("tiny", tmp_path, Silent()) == folder


def test_one_that_was_not_finished_is_written_again(tmp_path, monkeypatch):
    class Stops(Silent):
        def advance(self, n: int) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(SHAPES, "tiny", TINY)
    with pytest.raises(KeyboardInterrupt):
        random_model("tiny", tmp_path, Stops())
    folder = random_model("tiny", tmp_path, Silent())
    with open_checkpoint(str(folder), cache_dir=tmp_path) as checkpoint:
        assert checkpoint.num_blocks == 3


def test_what_cannot_be_written_is_told(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"no shape llama; there are .*llama-3.2-1b"):
        random_model("llama", tmp_path, Silent())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ConfigError, match=r"2.5 GB .* 0.0 GB are free"):
        random_model("llama-3.2-1b", tmp_path, Silent())
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        random_model("llama-3.2-1b", tmp_path / "file", Silent())
