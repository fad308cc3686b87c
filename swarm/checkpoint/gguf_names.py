"""From GGUF's tensor names and layouts to those of a transformers checkpoint.

transformers keeps what undoes llama.cpp's conversions (permuted q and k, shifted norms, fused
experts) in private tables, per architecture. This module alone touches them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from swarm.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class GgufNames:
    """The name map of one model, and the undoing of what its conversion did."""

    def __init__(self, architecture: str, config: PreTrainedConfig, where: str) -> None:
        try:
            from transformers.modeling_gguf_pytorch_utils import (
                TENSOR_PROCESSORS,
                TensorProcessor,
            )
        except ImportError as error:
            raise ConfigError(
                f"{where}: this version of transformers keeps its GGUF tables elsewhere; "
                "install the version that Homeswarm names, or use safetensors"
            ) from error
        kind = TENSOR_PROCESSORS.get(architecture, TensorProcessor)
        self._processor: Any = kind(config=config.to_dict())
        self._where = where
        # Names and shapes of the model's parameters, none of which may stay empty.
        names, self.needed = _model_names(config, where)
        self._names = _name_map(architecture, config, names, self._processor, where)

    def uses(self, name: str) -> bool:
        """Whether the GGUF tensor `name` ends up in the model at all."""
        return name in self._names or name.removesuffix(".weight") in self._names

    def convert(
        self, name: str, values: np.ndarray[Any, Any], into: dict[str, torch.Tensor]
    ) -> None:
        """Put dequantized `values` of GGUF tensor `name` into `into`, under checkpoint names.

        One tensor may become a part of another (a gate beside its up projection), or several.
        """
        try:
            result = self._processor.process(
                weights=values,
                name=name,
                tensor_key_mapping=self._names,
                parsed_parameters={"tensors": into},
            )
        except (KeyError, ValueError, IndexError) as error:
            raise ConfigError(
                f"{self._where}: tensor {name!r} is not as expected: {error}"
            ) from error
        if result.name in self._names:
            into[self._names[result.name]] = torch.from_numpy(np.array(result.weights))

    def rows(self, name: str, num_rows: int) -> tuple[str, torch.Tensor] | None:
        """The checkpoint's name for a matrix, and which of its GGUF rows stands at each place.

        None where the tensor becomes something else than the same rows in some order. It is found
        by converting the rows' own numbers, so that no architecture need be known here.
        """
        numbers = np.arange(1, num_rows + 1, dtype=np.float32).reshape(-1, 1)
        into: dict[str, torch.Tensor] = {}
        try:
            self.convert(name, numbers, into)
        except ConfigError:
            return None
        if len(into) != 1:
            return None
        ((key, placed),) = into.items()
        if placed.shape != numbers.shape:
            return None
        order = placed.flatten().long() - 1
        return (key, order) if torch.equal(order.sort()[0], torch.arange(num_rows)) else None


def _model_names(config: PreTrainedConfig, where: str) -> tuple[list[str], dict[str, torch.Size]]:
    """Every name in the whole model's state dict, and its parameters' shapes, which must be filled.

    Tied parameters appear once among the latter. Takes no memory for weights.
    """
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{where}: transformers cannot build this model: {error}") from error
    model.tie_weights()
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    return sorted(model.state_dict()), shapes


def _name_map(
    architecture: str, config: PreTrainedConfig, names: list[str], processor: Any, where: str
) -> dict[str, str]:
    """`{GGUF name: checkpoint name}`, by the gguf package's table.

    The same as transformers' own walk over all modules, which makes the package's table anew for
    every module (seconds, even for a small model) and so is not used.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    arch = next((key for key, value in MODEL_ARCH_NAMES.items() if value == architecture), None)
    if arch is None:
        raise ConfigError(f"{where}: the gguf package knows no architecture {architecture!r}")
    table = get_tensor_name_map(arch, config.num_hidden_layers)
    found: dict[str, str] = {}
    inner: dict[str, str] = {}
    for full in names:
        name = processor.preprocess_name(full)
        stem, dot, last = name.rpartition(".")
        suffix = dot + last if last in ("weight", "bias") else ""
        stem = stem if suffix else name
        if known := table.get_name(stem):
            found[known + suffix] = name
            continue
        processor.perform_fallback_tensor_mapping(found, suffix, "", name)
        # Some models were converted from their base model, whose names lack the first parts.
        while "." in stem:
            stem = stem.split(".", 1)[1]
            if known := table.get_name(stem):
                inner.setdefault(known + suffix, name)
                break
    return inner | found
