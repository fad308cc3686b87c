"""Asking the swarm: routes, sessions that outlive peers, sampling, and a transformers model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auditing.config import AuditConfig
    from .chunks import RowInput
    from .energy import Energy
    from .grammar import Grammar, Layout
    from .metrics import ClientMetrics
    from .model import RemoteModel
    from .piece import ChosenToken, Piece
    from .pretrained import SwarmModelForCausalLM
    from .reply import Finish, Reply
    from .sampling import SamplingConfig
    from .session import Session
    from .speculation import SpeculationConfig
    from .swarm import ModelOptions, Swarm
    from .template import ChatTemplate, TemplateError
    from .timing import HopTiming, Passage, RouteChange, Timing

__all__ = [
    "AuditConfig",
    "ChatTemplate",
    "ChosenToken",
    "ClientMetrics",
    "Energy",
    "Finish",
    "Grammar",
    "HopTiming",
    "Layout",
    "ModelOptions",
    "Passage",
    "Piece",
    "RemoteModel",
    "Reply",
    "RouteChange",
    "RowInput",
    "SamplingConfig",
    "Session",
    "SpeculationConfig",
    "Swarm",
    "SwarmModelForCausalLM",
    "TemplateError",
    "Timing",
]

_HOMES = {
    "AuditConfig": "auditing.config",
    "ChosenToken": "piece",
    "ChatTemplate": "template",
    "ClientMetrics": "metrics",
    "Energy": "energy",
    "Finish": "reply",
    "Grammar": "grammar",
    "HopTiming": "timing",
    "Layout": "grammar",
    "ModelOptions": "swarm",
    "Passage": "timing",
    "Piece": "piece",
    "RemoteModel": "model",
    "Reply": "reply",
    "RouteChange": "timing",
    "RowInput": "chunks",
    "SamplingConfig": "sampling",
    "Session": "session",
    "SpeculationConfig": "speculation",
    "Swarm": "swarm",
    "SwarmModelForCausalLM": "pretrained",
    "TemplateError": "template",
    "Timing": "timing",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: only who uses a name pays for it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
