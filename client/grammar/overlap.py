"""Which `oneOf` of a schema cannot be followed, as its choices do not exclude one another.

The library says that there is one, but not where. So each is tried while all others are `anyOf`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .schema import LISTED, NAMED, SINGLE, step

MAX_TRIED = 8
"""Of more, none is found: each is a compilation."""


def overlapping(schema: dict[str, Any], fails: Callable[[dict[str, Any]], bool]) -> str | None:
    """The place of the first such `oneOf`; `fails` tells of a schema whether the library finds one.

    None where it is not among the first.
    """
    places = [place for place, part in _parts(schema, "#") if "oneOf" in part]
    for place in places[:MAX_TRIED]:
        if fails(_eased(schema, "#", place)):
            return f"{place}/oneOf"
    return None


def _parts(schema: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All schemas within a schema, with their places."""
    if isinstance(schema, dict):
        yield place, schema
        for keyword, value in schema.items():
            for name, part in _within(keyword, value):
                yield from _parts(part, f"{place}/{name}")


def _within(keyword: str, value: Any) -> list[tuple[str, Any]]:
    """The schemas that a keyword has, with their places."""
    if keyword in NAMED:
        return [(f"{keyword}/{step(name)}", part) for name, part in value.items()]
    if keyword in LISTED:
        return [(f"{keyword}/{number}", part) for number, part in enumerate(value)]
    return [(keyword, value)] if keyword in SINGLE else []


def _eased(schema: Any, place: str, kept: str) -> Any:
    """The same with `anyOf` for each `oneOf` but that of the schema at `kept`."""
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for keyword, value in schema.items():
        parts = [_eased(part, f"{place}/{name}", kept) for name, part in _within(keyword, value)]
        if keyword in NAMED:
            made[keyword] = dict(zip(value, parts, strict=True))
        else:
            made[keyword] = parts if keyword in LISTED else (parts or [value])[0]
    if "oneOf" in made and place != kept:
        made["allOf"] = [*made.get("allOf", ()), {"anyOf": made.pop("oneOf")}]
    return made
