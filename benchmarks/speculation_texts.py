"""What `benchmarks/speculation.py` has a model write: prose, an edit of code, and an extraction.

The prompts are plain text to be continued, with an example where a small model needs one to see
what is asked for. How much of an answer is copied is up to the model, and is measured.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """A prompt, and how many tokens of its continuation are looked at."""

    prompt: str
    num_tokens: int


_PROSE = """\
The lighthouse keeper had lived alone on the island for eleven years when the letter came. It was \
brought by the supply boat on a grey morning in November, together with flour, lamp oil and a new \
pair of boots. He did not open it at once. He carried it up the spiral stairs to the lamp room, \
laid it on the table beside the log book, and looked out over the water for a long time. When he \
finally"""

_CODE = '''\
Each task gives a Python file and a variable. The answer is the same file with the variable \
renamed and nothing else changed.

### Task: rename `n` to `count`
```python
def mean(values):
    """Return the arithmetic mean of a list of numbers."""
    n = len(values)
    if n == 0:
        raise ValueError("mean of nothing")
    return sum(values) / n
```

### Answer
```python
def mean(values):
    """Return the arithmetic mean of a list of numbers."""
    count = len(values)
    if count == 0:
        raise ValueError("mean of nothing")
    return sum(values) / count
```

### Task: rename `total` to `amount`
```python
class Invoice:
    """An invoice with several items and a discount for regular customers."""

    def __init__(self, customer, items, discount=0.0):
        self.customer = customer
        self.items = list(items)
        self.discount = discount

    def total_price(self):
        """Return the price of all items in cents, after the discount."""
        total = 0
        for item in self.items:
            if item.quantity <= 0:
                raise ValueError("an item needs a positive quantity")
            total = total + item.price * item.quantity
        if self.customer.is_regular:
            total = total * (1.0 - self.discount)
        return round(total)

    def describe(self):
        """Return one line of text for each item of the invoice."""
        lines = []
        for item in self.items:
            lines.append(f"{item.quantity} x {item.name} at {item.price}")
        lines.append(f"customer: {self.customer.name}")
        return "\\n".join(lines)
```

### Answer
```python
class Invoice:
'''

_EXTRACTION = """\
Report
The harbour commission met on Tuesday, 14 March, in the old customs house. Chairwoman Ingrid \
Solberg opened the meeting at nine o'clock and welcomed the new members, Tomas Lindqvist and \
Maria Ferreira. The engineer reported that the northern breakwater had lost forty metres of its \
outer wall in the January storms, and that the repair would cost about 2.3 million crowns. Tomas \
Lindqvist asked whether the stones of the abandoned quarry at Rossnes could be used, which would \
save the transport by sea. The engineer answered that the granite was suitable, but that the road \
to the quarry would first have to be widened at two places. Maria Ferreira pointed out that the \
fishing boats need the northern basin from the first of May, so that the work has to be finished \
before then. The commission decided to ask three companies for an offer and to meet again on \
28 March.

The report, sentence by sentence, as a numbered list of quotations:
1. "The harbour commission met on Tuesday, 14 March, in the old customs house."
2. \"""" 

TEXTS = {
    "prose": Text(_PROSE, 160),
    "code edit": Text(_CODE, 240),
    "extraction": Text(_EXTRACTION, 200),
}
