"""How large a model's parts are: by the code with which peers and clients load them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm.client.head import ends_bytes
from swarm.forms import Form
from swarm.peer.blocks import forms_bytes
from swarm.peer.capacity import Holding, Needs
from swarm.peer.config import PeerConfig

if TYPE_CHECKING:
    import torch

PAGE_LEN = PeerConfig.page_len
FORMS = (Form.NONE, Form.INT8, Form.INT4)


@dataclass(frozen=True)
class Sizes:
    """A model by its parts: blocks in some forms, and what the client needs (bytes)."""

    needs: Mapping[Form, Needs]
    ends: int

    @property
    def num_blocks(self) -> int:
        """The same in every form."""
        return next(iter(self.needs.values())).num_blocks

    @property
    def position_bytes(self) -> int:
        """Bytes of keys and values per position in all blocks."""
        return next(iter(self.needs.values())).position_bytes * self.num_blocks

    def holding(self, form: Form, free: int) -> Holding:
        """What a peer takes in a form where so many bytes are free."""
        return self.needs[form].holding(free, PAGE_LEN)


def sizes(config: Any, dtype: torch.dtype, blocks: Mapping[Form, int] | None = None) -> Sizes:
    """Of a model by its config; `blocks` are the largest block's bytes, where a file decides them.

    Raises `ConfigError` for an architecture that does not run span by span.
    """
    if blocks is None:
        blocks = forms_bytes(config, dtype, FORMS)
    return Sizes(Needs.of(config, dtype, blocks), ends_bytes(config, dtype))
