"""What `benchmarks/speculation.py` has a model write: prose, edits of code, and extraction.

The model of the demonstration is a small one: it repeats what it is given well, and changes it
badly. So beside its own edit there is one that is dictated, token by token what a larger model
would have written; the blocks compute it all the same. What is written under a grammar is partly
certain beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swarm.client import Grammar
from swarm.errors import ConfigError

SAMPLED = {"temperature": 0.8, "top_p": 0.95, "seed": 0}


@dataclass(frozen=True)
class Text:
    """What is asked (through the chat template unless `raw`), and how it is answered.

    `answer` is dictated where there is one; else the model writes with the `sampling` options.
    """

    name: str
    prompt: str
    raw: bool = False
    answer: str | None = None
    sampling: tuple[tuple[str, Any], ...] = ()


def _renamed(code: str, old: str, new: str) -> str:
    return re.sub(rf"\b{old}\b", new, code)


_STORY = """\
The lighthouse keeper had lived alone on the island for eleven years when the letter came. It was \
brought by the supply boat on a grey morning in November, together with flour, lamp oil and a new \
pair of boots. He did not open it at once. He carried it up the spiral stairs to the lamp room, \
laid it on the table beside the log book, and looked out over the water for a long time. When he \
finally"""

_TABLES = """\
def read_table(path, separator=","):
    rows = []
    with open(path, encoding="utf-8") as file:
        header = file.readline().strip().split(separator)
        for line in file:
            values = line.strip().split(separator)
            if len(values) != len(header):
                raise ValueError(f"{path}: wrong number of columns")
            rows.append(dict(zip(header, values)))
    return rows


def write_table(path, rows, separator=","):
    header = list(rows[0])
    with open(path, "w", encoding="utf-8") as file:
        file.write(separator.join(header))
        for row in rows:
            values = [str(row[name]) for name in header]
            file.write(separator.join(values))
"""

_INVOICE = '''\
def invoice_total(customer, items, discount):
    """Return the price of all items in cents, after the discount."""
    total = 0
    for item in items:
        if item.quantity <= 0:
            raise ValueError("an item needs a positive quantity")
        total = total + item.price * item.quantity
    if customer.is_regular:
        total = total * (1.0 - discount)
    for voucher in customer.vouchers:
        if voucher.is_valid:
            total = total - voucher.value
    if total < 0:
        total = 0
    logger.info("customer %s pays %d", customer.name, total)
    return round(total)
'''

_REPORT = """\
The harbour commission met on Tuesday, 14 March, in the old customs house. Chairwoman Ingrid \
Solberg opened the meeting at nine o'clock and welcomed the new members, Tomas Lindqvist and Maria \
Ferreira. The engineer reported that the northern breakwater had lost forty metres of its outer \
wall in the January storms, and that the repair would cost about 2.3 million crowns. Tomas \
Lindqvist asked whether the stones of the abandoned quarry at Rossnes could be used, which would \
save the transport by sea. The engineer answered that the granite was suitable, but that the road \
to the quarry would first have to be widened at two places. Maria Ferreira pointed out that the \
fishing boats need the northern basin from the first of May, so that the work has to be finished \
before then. The commission decided to ask three companies for an offer and to meet again on \
28 March."""

_MEETING = Grammar.json_schema(
    {
        "type": "object",
        "properties": {
            "body": {"type": "string", "maxLength": 40},
            "chair": {"type": "string", "maxLength": 40},
            "new_members": {
                "type": "array",
                "items": {"type": "string", "maxLength": 30},
                "maxItems": 3,
            },
            "cost_in_crowns": {"type": "number", "minimum": 0},
            "decision": {"enum": ["postponed", "offers asked for", "rejected"]},
        },
        "required": ["body", "chair", "new_members", "cost_in_crowns", "decision"],
        "additionalProperties": False,
    }
)
_TRAIN = Grammar.sequence(
    Grammar.literal('<tool_call>\n{"name": "find_connections", "arguments": '),
    Grammar.json_schema(
        {
            "type": "object",
            "properties": {
                "departure_station": {"type": "string", "maxLength": 30},
                "arrival_station": {"type": "string", "maxLength": 30},
                "departure_time": {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"},
                "number_of_travellers": {"type": "integer", "minimum": 1, "maximum": 9},
                "travel_class": {"enum": ["first", "second"]},
            },
            "required": [
                "departure_station",
                "arrival_station",
                "departure_time",
                "number_of_travellers",
                "travel_class",
            ],
            "additionalProperties": False,
        }
    ),
    Grammar.literal("}\n</tool_call>"),
)

TEXTS = (
    Text("prose, sampled", _STORY, raw=True, sampling=tuple(SAMPLED.items())),
    Text("prose, greedy", "Why is the sky blue?"),
    Text(
        "code edit",
        f"Write this Python code again, with `rows` renamed to `records`:\n```python\n{_TABLES}```",
    ),
    Text(
        "code edit, dictated",
        f"Rename `total` to `amount` in this code:\n```python\n{_INVOICE}```",
        answer=f"```python\n{_renamed(_INVOICE, 'total', 'amount')}```",
    ),
    Text(
        "extraction",
        f"{_REPORT}\n\nQuote the sentences of this report that speak of the quarry.",
    ),
    Text(
        "tool call",
        "Two of us want to go from Hamburg to Prague at about nine in the morning, second class.",
        sampling=(("grammar", _TRAIN),),
    ),
    Text(
        "JSON with a schema",
        f"{_REPORT}\n\nSum this report up as JSON.",
        sampling=(("grammar", _MEETING),),
    ),
)


def chosen(names: Sequence[str]) -> list[Text]:
    """Those whose names begin with one of these; raises `ConfigError` for one that begins none."""
    for name in names:
        if not any(text.name.startswith(name) for text in TEXTS):
            known = "; ".join(text.name for text in TEXTS)
            raise ConfigError(f"no text is called {name!r}: there are {known}")
    return [text for text in TEXTS if text.name.startswith(tuple(names))]
