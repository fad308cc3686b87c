"""Loading a span, and refusing what cannot run as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from swarm.errors import ConfigError, LocalProtocolError
from swarm.peer.blocks import load_span
from swarm.peer.kv_cache import LayerGeometry
from swarm.peer.runner import Runner

CPU = torch.device("cpu")


def _load(checkpoint: Any, start: int = 1, end: int = 3) -> Any:
    return load_span(checkpoint, start, end, device=CPU, dtype=torch.float32)


@dataclass(frozen=True)
class Altered:
    """A checkpoint whose tensors went through `change`; counts how often it was read."""

    original: Any
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]

    @property
    def name(self) -> str:
        return str(self.original.name)

    @property
    def config(self) -> Any:
        return self.original.config

    def load_blocks(self, start: int, end: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        return self.change(self.original.load_blocks(start, end, dtype))


def _never(_: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    raise AssertionError("weights were read")


@pytest.mark.parametrize(
    ("architecture", "settings", "reason"),
    [
        ("bloom", {}, "attention interface"),
        ("falcon", {"alibi": True, "head_dim": "absent"}, "attention interface"),
        ("mamba", {}, "linear_attention layers"),
        ("llama4_text", {}, "chunked_attention layers"),
    ],
)
def test_refused_before_weights_are_read(
    architecture: str, settings: dict[str, Any], reason: str, tiny: Callable[..., Any]
) -> None:
    checkpoint = Altered(tiny(architecture, **settings), _never)
    with pytest.raises(ConfigError, match=f"{architecture}.* span by span: .*{reason}"):
        _load(checkpoint)


@pytest.mark.parametrize(
    ("architecture", "settings", "reason"),
    [
        ("phimoe", {"sliding_window": 16, "num_local_experts": 4}, "hides its sliding window"),
        ("gemma4_text", {"vocab_size_per_layer_input": 300}, "fail on their own"),
    ],
)
def test_refused_when_probed(
    architecture: str, settings: dict[str, Any], reason: str, tiny: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigError, match=f"{architecture}.* span by span: .*{reason}"):
        _load(tiny(architecture, **settings))


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [("gpt2", {}), ("granite", {"embedding_multiplier": 12.0})],
)
def test_refused_by_the_self_check(
    architecture: str, settings: dict[str, Any], tiny: Callable[..., Any]
) -> None:
    runner = Runner(_load(tiny(architecture, **settings)), num_pages=8)
    with pytest.raises(ConfigError, match=f"{architecture}.* changes embeddings"):
        runner.check()


def test_keys_and_values_of_each_layer_are_measured(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny(
        "gemma4_text",
        hidden_size_per_layer_input=0,
        global_head_dim=32,
        num_kv_shared_layers=0,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
    )
    span = _load(checkpoint, 2, 4)
    assert span.geometry == (LayerGeometry(2, 16, 16), LayerGeometry(2, 32, 32))
    assert (span.start, span.end, span.hidden_size) == (2, 4, 64)
    assert span.max_sessions_per_batch is None


def test_rope_that_depends_on_length_runs_alone(tiny: Callable[..., Any]) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert _load(tiny("llama", rope_parameters=rope)).max_sessions_per_batch == 1


def test_missing_and_unknown_tensors_are_named(tiny: Callable[..., Any]) -> None:
    checkpoint = tiny("llama")

    def lose(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {k: v for k, v in tensors.items() if not k.endswith("1.mlp.up_proj.weight")}

    def scale(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return tensors | {"model.layers.0.mlp.up_proj.weight_scale": torch.ones(1)}

    def widen(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return tensors | {"model.layers.0.mlp.up_proj.weight": torch.ones(3, 64)}

    with pytest.raises(ConfigError, match=r"lacks tensors.*layers\.1\.mlp\.up_proj"):
        _load(Altered(checkpoint, lose))
    with pytest.raises(ConfigError, match=r"unknown tensors.*weight_scale"):
        _load(Altered(checkpoint, scale))
    with pytest.raises(ConfigError, match=r"wrongly shaped tensors.*up_proj"):
        _load(Altered(checkpoint, widen))


@pytest.mark.parametrize(("start", "end"), [(0, 0), (2, 5), (-1, 2), (3, 2)])
def test_ranges_outside_the_model(start: int, end: int, tiny: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="0:4"):
        _load(tiny("llama"), start, end)


def test_parts_must_lie_inside(tiny: Callable[..., Any]) -> None:
    span = _load(tiny("llama"))
    assert span.part(1, 3) is span
    with pytest.raises(LocalProtocolError):
        span.part(0, 2)


def test_loading_is_silent_and_leaves_the_config_alone(
    tiny: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tiny("qwen2")
    before = checkpoint.config.to_dict()
    capfd.readouterr()
    Runner(_load(checkpoint), num_pages=8).check()
    assert capfd.readouterr() == ("", "")
    assert checkpoint.config.to_dict() == before
