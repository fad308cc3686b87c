"""How far apart two honest peers may be. Measured: see the table in `docs/audit.md`."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.forms import Form


@dataclass(frozen=True)
class Tolerance:
    """Bounds of the median distance and of the largest one (`swarm.auditing.comparison`)."""

    usual: float
    largest: float


FINE = Tolerance(usual=0.12, largest=1.0)
"""Between weights in float32, bfloat16, float16 or int8. Honest medians were up to 0.07, single
positions up to 0.45; a tenth of noise in one block gives 0.08 to 0.30, a block that is left out
0.48 or more, a block's weights drawn anew 0.83 or more."""

COARSE = Tolerance(usual=0.6, largest=1.2)
"""Where either has its weights in 4 bits. Honest medians were up to 0.42 (random weights, which
suffer most); other weights and swapped positions are still 0.9 or more."""

_FINE_FORMS = frozenset({Form.NONE, Form.INT8})


def tolerance(*forms: str) -> Tolerance:
    """The bounds between peers that announce these forms of weights; unknown ones are coarse."""
    return FINE if _FINE_FORMS.issuperset(forms) else COARSE
