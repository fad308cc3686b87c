"""A run of a model's blocks, built from transformers' own code and nothing else.

The model class is made whole on the meta device, keeps only the span's layers, and loads only
their tensors. It is then called with hidden states in place of embeddings. No architecture is
named here: what cannot run this way is found out, and refused with the reason.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from transformers import MODEL_MAPPING

from swarm.checkpoint.layout import block_index
from swarm.checkpoint.quiet import quiet
from swarm.errors import ConfigError, LocalProtocolError
from swarm.forms import Form, Stored
from swarm.linear import prepack, weight_bytes

from .attention import ATTENTION, Attend, Plan, planned, register_attention
from .kv_cache import LayerGeometry
from .probe import Probe, refusal

_LAYER_TYPES = {"full_attention", "sliding_attention"}
_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
_UNUSED_VOCABULARY = 8  # the embedding is built but never called: keep it tiny


class Checkpoint(Protocol):
    """A model's weights, as far as a span needs them (see `swarm.checkpoint`)."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def config(self) -> Any:
        """transformers' config of the text model, with all layers."""
        ...

    def load_blocks(self, start: int, end: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """The tensors of blocks [start, end), named as in the checkpoint, from block 0 on."""
        ...

    def stored(self, start: int, end: int, *, grids: bool = True) -> dict[str, Stored]:
        """How the file keeps the weights that it has quantized, by the names of `load_blocks`."""
        ...


class Span:
    """Blocks [start, end) of a model, ready to run. Made by `load_span`.

    `geometry` is what each block keeps per position, `attends` what it asks of attention.
    `max_sessions_per_batch` is 1 where the rotary embedding depends on the longest position in a
    batch ("dynamic", "longrope"), so that one session would change another's numbers; else None.
    Such models also see a prompt's first chunks as short texts, unlike one whole prefill.
    """

    def __init__(self, model: nn.Module, layers_path: str, *, start: int, end: int) -> None:
        self.model = model
        self._layers_path = layers_path
        self.start = start
        self.end = end
        config: Any = model.config
        self.architecture = str(config.model_type)
        self.hidden_size = int(config.hidden_size)
        parameter = next(self.layers.parameters())
        self.device = parameter.device
        self.dtype = _floating_dtype(self.layers)
        self.max_sessions_per_batch = 1 if _rope_types(config) & _LENGTH_DEPENDENT_ROPE else None
        self.geometry, self.attends = self._probe()
        self._parts: dict[tuple[int, int], Span] = {(start, end): self}

    @property
    def layers(self) -> nn.ModuleList:
        """The blocks themselves, in order."""
        layers = self.model.get_submodule(self._layers_path)
        assert isinstance(layers, nn.ModuleList)
        return layers

    def forward(self, hidden: torch.Tensor, position_ids: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Run hidden states [1, T, hidden_size] at `position_ids` [1, T] through the blocks."""
        with planned(plan):
            out: torch.Tensor = self.model(
                inputs_embeds=hidden, position_ids=position_ids, use_cache=False
            ).last_hidden_state
        return out

    def part(self, start: int, end: int) -> Span:
        """Blocks [start, end) alone, sharing everything with this span (layers, KV memory)."""
        part = self._parts.get((start, end))
        if part is not None:
            return part
        if not self.start <= start < end <= self.end:
            raise LocalProtocolError(f"blocks {start}:{end} are not in {self.start}:{self.end}")
        model = _with_layers(self.model, self._layers_path, start - self.start, end - self.start)
        part = copy.copy(self)
        part.model, part.start, part.end = model, start, end
        part.geometry = self.geometry[start - self.start : end - self.start]
        part.attends = self.attends[start - self.start : end - self.start]
        self._parts[start, end] = part
        return part

    def forward_eager(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same blocks with transformers' own attention and masks, without any cache.

        `hidden` [1, T, hidden_size] is one whole sequence, from position 0 on.
        """
        positions = torch.arange(hidden.shape[1], device=self.device).unsqueeze(0)
        model: Any = self.model
        with quiet():
            model.set_attn_implementation("eager")
            try:
                out: torch.Tensor = model(
                    inputs_embeds=hidden, position_ids=positions, use_cache=False
                ).last_hidden_state
            finally:
                model.set_attn_implementation(ATTENTION)
        return out

    def _probe(self) -> tuple[tuple[LayerGeometry, ...], tuple[Attend, ...]]:
        """Run one position, to see what each layer wants to keep of it."""
        probe = Probe(self.end - self.start)
        try:
            self._look(probe)
        except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
            raise refusal(self.architecture, f"its blocks fail on their own: {error}") from error
        config: Any = self.model.config
        return probe.result(self.architecture, config)

    @torch.inference_mode()
    def _look(self, probe: Plan) -> None:
        hidden = torch.randn(1, 1, self.hidden_size, dtype=self.dtype, device=self.device)
        positions = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        out = self.forward(hidden, positions, probe)
        if out.shape != hidden.shape:
            raise ValueError(f"{tuple(hidden.shape)} becomes {tuple(out.shape)}")

    def pack(self, form: Form = Form.NONE, stored: Mapping[str, Stored] | None = None) -> None:
        """Bring the weights into a form, and that into what this machine multiplies fastest.

        `stored` is by the names of weights in `layers`.
        """
        probe = Probe(self.end - self.start)
        prepack(self.layers, lambda: self._look(probe), form, stored)


def load_span(
    checkpoint: Checkpoint,
    start: int,
    end: int,
    *,
    device: torch.device,
    dtype: torch.dtype,
    form: Form = Form.NONE,
) -> Span:
    """Load blocks [start, end) of `checkpoint` onto `device`. Blocks for seconds to minutes.

    They are there in `dtype` before they take another `form`: see `loading` for large spans.
    Raises ConfigError if the range is empty or outside the model, if tensors are missing, if
    the architecture cannot run span by span, or if the device cannot multiply in that form.
    """
    config = checkpoint.config
    num_blocks = int(config.num_hidden_layers)
    if not 0 <= start < end <= num_blocks:
        raise ConfigError(f"blocks {start}:{end} are not in {checkpoint.name} (0:{num_blocks})")
    base = _model_class(config)
    register_attention()
    cut = _cut_class(base, num_blocks, start, end)
    state = checkpoint.load_blocks(start, end, dtype)
    model, loading = _build(checkpoint.name, cut, _loading_config(config), state, dtype)
    del state  # packing frees the plain weights one by one
    path = model.span_layers_path
    _require_complete(checkpoint.name, path, loading)
    drop_tail(model, path)
    slice_config(model.config, num_blocks, start, end)
    model.eval().requires_grad_(False).to(device)
    span = Span(model, path, start=start, end=end)
    known = checkpoint.stored(start, end) if form in (Form.INT4, Form.FILE) else {}
    span.pack(form, {within_layers(name): stored for name, stored in known.items()})
    return span


def within_layers(name: str) -> str:
    """A block tensor's name in a checkpoint, as a list of layers has it: `0.mlp.up_proj.weight`."""
    return name[name.index(f".{block_index(name)}.") + 1 :]


def _model_class(config: Any) -> Any:
    """transformers' base model class for `config`, if its kind can be run in spans at all."""
    architecture = str(config.model_type)
    base: Any = MODEL_MAPPING.get(type(config), None)
    if isinstance(base, tuple):
        base = base[0]
    if base is None:
        raise refusal(architecture, "transformers has no model class for it")
    if getattr(config, "is_encoder_decoder", False):
        raise refusal(architecture, "it is an encoder-decoder")
    types = set(getattr(config, "layer_types", None) or ())
    if strange := sorted(types - _LAYER_TYPES):
        raise refusal(architecture, f"it has {', '.join(strange)} layers")
    if getattr(base, "_is_stateful", False):
        raise refusal(architecture, "it keeps a recurrent state instead of keys and values")
    if not base._can_set_attn_implementation():
        raise refusal(architecture, "its attention bypasses transformers' attention interface")
    return base


def _cut_class(base: Any, num_blocks: int, start: int, end: int) -> Any:
    """A subclass of `base` that has only layers [start, end), counted from 0."""

    class Cut(base):  # type: ignore[misc]
        def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(config, *args, **kwargs)
            self.span_layers_path = _layers_path(self, num_blocks)
            kept = list(self.get_submodule(self.span_layers_path))[start:end]
            self.set_submodule(self.span_layers_path, nn.ModuleList(kept))
            for module in self.modules():
                if isinstance(getattr(module, "layer_idx", None), int):
                    module.layer_idx -= start

    # transformers looks its weight conversions up by the class's name.
    Cut.__name__ = base.__name__
    Cut.__qualname__ = base.__qualname__
    Cut.__module__ = base.__module__
    return Cut


def _layers_path(model: nn.Module, num_blocks: int) -> str:
    """Name of the outermost list of `num_blocks` modules in `model`."""
    paths = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == num_blocks
    ]
    depths = [path.count(".") for path in paths]
    outermost = [path for path in paths if path.count(".") == min(depths)]
    if len(outermost) != 1:
        config: Any = model.config
        raise refusal(str(config.model_type), f"it has {len(outermost)} lists of layers")
    return str(outermost[0])


def _build(
    name: str, cut: Any, config: Any, state: dict[str, torch.Tensor], dtype: torch.dtype
) -> tuple[Any, dict[str, Any]]:
    """Make the model and give it `state`; transformers renames, merges and ties as it must."""
    try:
        with quiet():
            model, loading = cut.from_pretrained(
                None,
                config=config,
                state_dict=state,
                dtype=dtype,
                attn_implementation=ATTENTION,
                ignore_mismatched_sizes=True,  # they come back in `loading`, and are refused
                output_loading_info=True,
            )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{name} does not load: {error}") from error
    return model, loading


def _loading_config(config: Any) -> Any:
    config = copy.deepcopy(config)
    for name in [name for name in vars(config) if name.startswith("vocab_size")]:
        setattr(config, name, _UNUSED_VOCABULARY)
    config.pad_token_id = None  # it may lie outside the tiny vocabulary
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # tensors come as plain numbers
    return config


def _with_layers(model: nn.Module, path: str, start: int, end: int) -> nn.Module:
    """A shallow copy of `model` with layers [start, end) of the list at `path` only."""
    copied = copy.copy(model)
    copied._modules = dict(model._modules)
    config: Any = copy.copy(model.config)
    slice_config(config, int(config.num_hidden_layers), start, end)
    copied.config = config
    name, _, rest = path.partition(".")
    child = getattr(model, name)
    setattr(copied, name, _with_layers(child, rest, start, end) if rest else child[start:end])
    return copied


def slice_config(config: Any, num_blocks: int, start: int, end: int) -> None:
    """Cut what `config` lists per layer. After loading: set-up code wants the whole lists."""
    for name, value in list(vars(config).items()):
        if isinstance(value, list | tuple) and len(value) == num_blocks:
            setattr(config, name, value[start:end])
    config.num_hidden_layers = end - start


def _require_complete(name: str, path: str, loading: dict[str, Any]) -> None:
    missing = sorted(key for key in loading["missing_keys"] if key.startswith(f"{path}."))
    unexpected = sorted(loading["unexpected_keys"])
    mismatched = sorted(str(key) for key, *_ in loading["mismatched_keys"])
    for what, keys in (
        ("has wrongly shaped", mismatched),
        ("lacks", missing),
        ("has unknown", unexpected),
    ):
        if keys:
            shown = ", ".join(keys[:4]) + (", …" if len(keys) > 4 else "")
            raise ConfigError(f"{name} {what} tensors in its blocks: {shown}")


def drop_tail(model: nn.Module, path: str) -> None:
    """Replace what comes after the layers and has weights (the final norm) by identities."""
    parent_path, _, name = path.rpartition(".")
    parent = model.get_submodule(parent_path)
    names = [child for child, _ in parent.named_children()]
    for child in names[names.index(name) + 1 :]:
        if any(True for _ in getattr(parent, child).parameters()):
            setattr(parent, child, nn.Identity())


def _floating_dtype(layers: nn.Module) -> torch.dtype:
    """The number type of most of the weights: a few may be kept in float32."""
    totals: dict[torch.dtype, int] = {}
    for parameter in layers.parameters():
        totals[parameter.dtype] = totals.get(parameter.dtype, 0) + parameter.numel()
    return max(totals, key=lambda dtype: totals[dtype])


def _rope_types(config: Any) -> set[str]:
    """Kinds of rotary embedding: one for the model, or one for each type of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    return {str(each["rope_type"]) for each in (parameters, *nested) if "rope_type" in each}


def block_bytes(
    config: Any,
    dtype: torch.dtype,
    form: Form = Form.NONE,
    stored: Mapping[str, Stored] | None = None,
) -> int:
    """Memory that the largest block of a model takes, in bytes; builds no weights.

    `stored` is by the names of weights in the list of all layers; `form` FILE depends on it.
    """
    return forms_bytes(config, dtype, (form,), stored)[form]


def forms_bytes(
    config: Any,
    dtype: torch.dtype,
    forms: Sequence[Form],
    stored: Mapping[str, Stored] | None = None,
) -> dict[Form, int]:
    """As `block_bytes`, in several forms."""
    model, path = hollow(config)
    layers = model.get_submodule(path)
    of_layer: list[dict[str, Stored]] = [{} for _ in layers]
    for name, how in (stored or {}).items():
        index, _, rest = name.partition(".")
        of_layer[int(index)][rest] = how
    each = list(zip(layers, of_layer, strict=True))
    return {
        form: max(weight_bytes(layer, dtype, form, known) for layer, known in each)
        for form in forms
    }


def hollow(config: Any) -> tuple[Any, str]:
    """A model without weights, and where in it the list of its layers is."""
    with quiet(), torch.device("meta"):
        model = _model_class(config)(_loading_config(config))
    return model, _layers_path(model, int(config.num_hidden_layers))
