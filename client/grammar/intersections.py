"""How many regular expressions a schema lays over one another: time may double with each of them.

A text that has to match several is found by their intersection, whose automaton has as many states
as all their states multiplied. llguidance limits what most of a grammar takes, but not this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

MAX_TOGETHER = 8
"""Of the worst kind, ten take a millisecond, fourteen 14 ms, and thirty no end. Few have more than
three: a pattern, a format, and a length."""


class Bound(NamedTuple):
    """The most expressions that meet at one value: at that of the schema itself, or within it."""

    here: int = 0
    within: int = 0

    @property
    def most(self) -> int:
        """Anywhere."""
        return max(self)

    def both(self, other: Bound) -> Bound:
        """Where a value has to obey two schemas."""
        return Bound(self.here + other.here, self.within + other.within)


def expressions(schema: dict[str, Any]) -> int:
    """At most so many meet at one value, in a schema that `schema.checked` has made."""
    return _Count(schema).bound(schema).most


class _Count:
    """One walk, in which each schema that is referred to is looked at once."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[str, Bound] = {}

    def bound(self, schema: Any) -> Bound:
        if not isinstance(schema, dict):
            return Bound()
        lengths = "minLength" in schema or "maxLength" in schema
        here = ("pattern" in schema) + ("format" in schema) + lengths
        total = Bound(here, self._within(schema))
        for part in schema.get("allOf", ()):
            total = total.both(self.bound(part))
        for choice in ("anyOf", "oneOf"):
            total = total.both(self._either(schema.get(choice, ())))
        return total.both(self._referred(schema["$ref"])) if "$ref" in schema else total

    def _within(self, schema: Mapping[str, Any]) -> int:
        """What meets at one property or item, or its name."""
        patterns = schema.get("patternProperties", {})
        # A property may have a schema of its own and match several patterns.
        named = sum(self.bound(each).most for each in patterns.values())
        named += self._either(schema.get("properties", {}).values()).most
        alone = [schema[each] for each in ("items", "additionalProperties") if each in schema]
        others = self._either([*alone, *schema.get("prefixItems", ())]).most
        return max(named, others, len(patterns))

    def _either(self, schemas: Iterable[Any]) -> Bound:
        bounds = [self.bound(each) for each in schemas]
        here = max((each.here for each in bounds), default=0)
        return Bound(here, max((each.within for each in bounds), default=0))

    def _referred(self, reference: str) -> Bound:
        if reference not in self._known:
            # Within itself it counts nothing: the library refuses circles that add anything.
            self._known[reference] = Bound()
            self._known[reference] = self.bound(_find(self._root, reference))
        return self._known[reference]


def _find(root: Any, reference: str) -> Any:
    found = root
    for step in unquote(reference).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found
