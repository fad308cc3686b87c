"""Where JSON that is written under a schema has spaces."""

from __future__ import annotations

from enum import Enum
from typing import Any


class Layout(Enum):
    """How much of a JSON text's layout is left to the model.

    Where nothing is left to it, everything between two values is certain beforehand and costs no
    steps (`swarm.client.speculation.forced`); and no model loses itself in blank lines.
    """

    LINE = "line"
    """`{"a": 1, "b": [2, 3]}`: as Python writes it, and as models mostly saw it in training."""

    COMPACT = "compact"
    """`{"a":1,"b":[2,3]}`."""

    FREE = "free"
    """Up to 40 blanks and line breaks wherever JSON allows them: indented by the model."""

    @property
    def options(self) -> dict[str, Any]:
        """The same in the library's words."""
        space = "" if self is not Layout.LINE else " "
        return {
            "item_separator": "," + space,
            "key_separator": ":" + space,
            "whitespace_flexible": False,
            "whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,40}" if self is Layout.FREE else None,
            # One way to write each name, so that none comes twice; and no half of a character.
            "json_allowed_escapes": 'nrbtf\\"',
            "json_allow_general_unicode_escapes": False,
            "coerce_one_of": False,
            "lenient": False,
        }
