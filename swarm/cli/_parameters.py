"""Parameters that stand together in a dataclass, so that several commands share them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter
from typing import Any, get_type_hints


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """`command` as typer is to see it: a parameter that is a dataclass is an option per field.

    Fields are annotated, and have defaults, as parameters of a command are and do.
    """
    known = inspect.signature(command, eval_str=True).parameters
    groups = {name: each.annotation for name, each in known.items() if _is_group(each)}
    flat: list[Parameter] = []
    for name, each in known.items():
        # By keyword alone, they may stand in any order, whichever have defaults.
        flat += (
            _options(groups[name])
            if name in groups
            else [each.replace(kind=Parameter.KEYWORD_ONLY)]
        )

    @wraps(command)
    def called(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{each.name: given.pop(each.name) for each in fields(group)})
        command(**given)

    called.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    return called


def _is_group(parameter: Parameter) -> bool:
    return isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)


def _options(group: type[Any]) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            each.name,
            Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=hints[each.name],
        )
        for each in fields(group)
    ]
